"""Read the operator's parameters that shape the pod as plain values.

`PodParameters.of` takes an operator's attributes after rendering, in every form that users write (dicts, models of
either client, lists, tuples), and returns only dicts, lists and scalars. Names and meanings are the operator's.
Merging and defaults belong to `build`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from kpo_async.exceptions import ManifestError
from kpo_async.json_types import Json
from kpo_async.models import is_model, plain, to_marked_dict
from kpo_async.pod.schema import Warn, coerce, is_spelt, spell
from kpo_async.pod.template import read_template_file
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.secret import Secret

Objects = list[Json]
Strings = list[Any]


@dataclass(frozen=True, kw_only=True)
class PodParameters:
    """The parameters of one pod. `pod_template` is the content of `pod_template_file` or else `pod_template_dict`."""

    task_id: str
    name: str | None = None
    random_name_suffix: bool = True
    namespace: str | None = None
    labels: Json = field(default_factory=dict)
    annotations: Json = field(default_factory=dict)
    pod_template: Json | None = None
    full_pod_spec: Json | None = None

    base_container_name: str = "base"
    image: str | None = None
    image_pull_policy: str | None = None
    cmds: Strings = field(default_factory=list)
    arguments: Strings = field(default_factory=list)
    env_vars: Objects = field(default_factory=list)
    pod_runtime_info_envs: Objects = field(default_factory=list)
    env_from: Objects = field(default_factory=list)
    configmaps: Strings = field(default_factory=list)
    secrets: Objects = field(default_factory=list)
    ports: Objects = field(default_factory=list)
    volume_mounts: Objects = field(default_factory=list)
    container_resources: Json | None = None
    container_security_context: Json | None = None
    termination_message_policy: str | None = "File"

    volumes: Objects = field(default_factory=list)
    init_containers: Objects = field(default_factory=list)
    node_selector: Json = field(default_factory=dict)
    affinity: Json = field(default_factory=dict)
    tolerations: Objects = field(default_factory=list)
    image_pull_secrets: Objects = field(default_factory=list)
    host_aliases: Objects | None = None
    security_context: Json = field(default_factory=dict)
    dns_config: Json | None = None
    dnspolicy: str | None = None
    hostname: str | None = None
    subdomain: str | None = None
    hostnetwork: bool = False
    schedulername: str | None = None
    runtime_class_name: str | None = None
    priority_class_name: str | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    active_deadline_seconds: int | None = None
    termination_grace_period: int | None = None

    do_xcom_push: bool = False
    xcom_transport: str = XComTransport.SIDECAR.value
    xcom_sidecar_container_security_context: Json | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], *, warn: Warn) -> PodParameters:
        """Read an operator's attributes after rendering. Blocks while it reads a `pod_template_file`.

        Raise ManifestError, naming the parameter, for a value that does not fit into a manifest.
        """
        found: dict[str, Any] = {"pod_template": _template(values, warn)}
        for item in fields(cls):
            if item.name in values:
                value = values[item.name]
                found[item.name] = None if value is item.default is None else read(item.name, value, warn)
        return cls(**found)


def read(name: str, value: Any, warn: Warn) -> Any:
    """Return the parameter `name` as plain values. Raise ManifestError for a wrong shape."""
    if name in _READERS:
        return _READERS[name](name, value, warn)
    if name not in KINDS:
        return _convert(name, value)
    return _objects(name, value) if KINDS[name].startswith("[") else _object(name, value)


def check_spelling(name: str, value: Any) -> None:
    """Raise ManifestError for a key in the parameter `name` that Kubernetes does not know, before it is rendered."""
    if not is_spelt(value, KINDS[name]):
        spell(plain(value), KINDS[name], name)


def env_list(variables: Mapping[str, Any]) -> Objects:
    """Convert the dict form of `env_vars` to the list that Kubernetes takes."""
    return [{"name": name} if value is None else {"name": name, "value": value} for name, value in variables.items()]


def secret_references(names: list[Any] | str | None) -> list[Any]:
    """Return `image_pull_secrets` as a list; a string has the secrets' names, with commas between them."""
    return [{"name": name.strip()} for name in names.split(",")] if isinstance(names, str) and names else names or []


def _template(values: Mapping[str, Any], warn: Warn) -> Json | None:
    path, given = values.get("pod_template_file"), values.get("pod_template_dict")
    if path:
        return _pod("pod_template_file", read_template_file(path, warn) or {}, warn)
    return _pod("pod_template_dict", given, warn) if given else None


def _coerced(name: str, value: Any, kind: str, warn: Warn) -> Json:
    """Coerce dicts by the table of types, as the incumbent does; take a model as it is."""
    converted: Json = spell(_convert(name, value), kind, name)
    return converted if is_model(value) else coerce(converted, kind, name, warn)


def _convert(name: str, value: Any) -> Any:
    try:
        return to_marked_dict(value)
    except ManifestError as error:
        raise ManifestError(f"{name}: {error}") from error


def _list(name: str, value: Any) -> Strings:
    return _expect(name, _convert(name, value), list, "a list") if value else []


def _mapping(name: str, value: Any) -> Json:
    return _expect(name, _convert(name, value), dict, "a dict or a model") if value else {}


def _object(name: str, value: Any) -> Json:
    found: Json = spell(_mapping(name, value), KINDS[name], name)
    return found


def _objects(name: str, value: Any) -> Objects:
    items = _list(name, value)
    for index, item in enumerate(items):
        _expect(f"{name}[{index}]", item, dict, "a dict or a model")
    found: Objects = spell(items, KINDS[name], name)
    return found


def _strings(name: str, value: Any, warn: Warn) -> Strings:
    return _list(name, value)


def _env_vars(name: str, value: Any, warn: Warn) -> Objects:
    variables = env_list(_convert(name, value)) if isinstance(value, Mapping) else _objects(name, value)
    return [_text_value(variable) for variable in variables]


def _text_value(variable: Json) -> Json:
    return {**variable, "value": _text(variable["value"])} if "value" in variable else variable


def _texts(name: str, value: Any, warn: Warn) -> Strings:
    return [_text(item) for item in _list(name, value)]


def _text_values(name: str, value: Any, warn: Warn) -> Json:
    return {key: _text(item) for key, item in _mapping(name, value).items()}


def _text(value: Any) -> Any:
    """Return a number as text: an XCom or `render_template_as_native_obj` may give a number where text is needed."""
    return str(value) if isinstance(value, (int, float)) else value


def _pod(name: str, value: Any, warn: Warn) -> Json | None:
    return _coerced(name, value, "Pod", warn) if value else None


def _full_pod_spec(name: str, value: Any, warn: Warn) -> Json | None:
    given = _convert(name, value)
    if isinstance(given, dict) and "containers" in given and "spec" not in given:
        raise ManifestError(f"{name} has its containers at the top, as a PodSpec: give a Pod, with them in its spec")
    return _pod(name, value, warn)


def _affinity(name: str, value: Any, warn: Warn) -> Json:
    return _coerced(name, value, "Affinity", warn) if value else {}


def _tolerations(name: str, value: Any, warn: Warn) -> Objects:
    items = enumerate(_expect(name, value, (list, tuple), "a list")) if value else ()
    return [_coerced(f"{name}[{index}]", item, "Toleration", warn) for index, item in items]


def _image_pull_secrets(name: str, value: Any, warn: Warn) -> Objects:
    return _objects(name, secret_references(value))


def _secrets(name: str, value: Any, warn: Warn) -> Objects:
    items = enumerate(_expect(name, value, (list, tuple), "a list")) if value else ()
    secrets = ((f"{name}[{index}].items", Secret.of(item).as_dict()) for index, item in items)
    return [{**secret, "items": spell(secret["items"], "[KeyToPath]", path)} for path, secret in secrets]


def _expect(name: str, value: Any, kind: type | tuple[type, ...], wanted: str) -> Any:
    if not isinstance(value, kind):
        # A template of the whole parameter renders to text, even if an XCom is a list or a dict.
        hint = "; if a template makes it, use `task.output` or render_template_as_native_obj=True"
        raise ManifestError(
            f"{name} is a {type(value).__name__}, {wanted} is needed{hint if isinstance(value, str) else ''}"
        )
    return value


KINDS: Mapping[str, str] = {
    "affinity": "Affinity",
    "container_resources": "ResourceRequirements",
    "container_security_context": "SecurityContext",
    "dns_config": "PodDNSConfig",
    "env_from": "[EnvFromSource]",
    "env_vars": "[EnvVar]",
    "full_pod_spec": "Pod",
    "host_aliases": "[HostAlias]",
    "image_pull_secrets": "[LocalObjectReference]",
    "init_containers": "[Container]",
    "pod_runtime_info_envs": "[EnvVar]",
    "pod_template_dict": "Pod",
    "ports": "[ContainerPort]",
    "security_context": "PodSecurityContext",
    "tolerations": "[Toleration]",
    "volume_mounts": "[VolumeMount]",
    "volumes": "[Volume]",
    "xcom_sidecar_container_security_context": "SecurityContext",
}
"""The type, in the table of `schema`, of each parameter that takes Kubernetes objects."""

_Reader = Callable[[str, Any, Warn], Any]
_READERS: Mapping[str, _Reader] = {
    "labels": _text_values,
    "annotations": _text_values,
    "node_selector": _text_values,
    "cmds": _texts,
    "arguments": _texts,
    "configmaps": _strings,
    "env_vars": _env_vars,
    "secrets": _secrets,
    "full_pod_spec": _full_pod_spec,
    "affinity": _affinity,
    "tolerations": _tolerations,
    "image_pull_secrets": _image_pull_secrets,
}
"""The reader of each parameter that is neither a scalar nor simply of its type in `KINDS`."""
