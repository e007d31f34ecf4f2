"""Refuse, at DAG parse, parameters that can never become a pod.

That is what no rendering can repair and the API server (or the build) is certain to refuse, and a number where text is
needed: only the author knows whether 1 means "1" or "1.0". Values with a template in them or not known yet (an XComArg)
are skipped. Everything that the incumbent accepts and Kubernetes takes is accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kpo_async.exceptions import ManifestError
from kpo_async.models import is_unrendered, plain
from kpo_async.pod import names, parameters, schema

CHOICES: Mapping[str, tuple[str, ...]] = {
    "image_pull_policy": ("Always", "IfNotPresent", "Never"),
    "dnspolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "termination_message_policy": ("File", "FallbackToLogsOnError"),
}
NUMBERS = (
    *("active_deadline_seconds", "base_container_status_polling_interval", "poll_interval", "schedule_timeout_seconds"),
    *("startup_check_interval_seconds", "startup_timeout_seconds", "termination_grace_period"),
)
"""Parameters that must be numbers: an Airflow Variable, for example, is text, and would fail only once the pod runs."""
NOT_RENDERED = (
    *("affinity", "container_security_context", "dns_config", "full_pod_spec", "host_aliases", "image_pull_secrets"),
    *("init_containers", "pod_runtime_info_envs", "ports", "secrets", "security_context", "tolerations"),
    "xcom_sidecar_container_security_context",
)
"""Parameters that are final when the DAG is parsed, so they can be read as the build reads them."""

_LABEL_RULE = "use at most 63 letters, digits, dashes, dots and underscores, with a letter or digit at both ends"


def validate(values: Mapping[str, Any]) -> None:
    """Raise ManifestError for the first of the operator's attributes `values` that can never become a pod."""
    for name, check in _CHECKS.items():
        value = values.get(name)
        if value and not is_unrendered(value):
            check(name, value)
    for name in NUMBERS:
        value = values.get(name)
        if isinstance(value, str) and not is_unrendered(value):
            raise ManifestError(f"{name} is {value!r} (str): give a number")
    if values.get("name") == "":
        names.clean("")


def _choice(name: str, value: Any) -> None:
    if value not in CHOICES[name]:
        raise ManifestError(f"{name} is {value!r}: give one of {', '.join(CHOICES[name])}")


def _name(name: str, value: Any) -> None:
    names.clean(value)


def _readable(name: str, value: Any) -> None:
    parameters.read(name, value, _silent)


def _spelt(name: str, value: Any) -> None:
    parameters.check_spelling(name, value)


def _labels(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if key not in names.OVERWRITTEN_LABELS}
    _selector(name, value)


def _selector(name: str, value: Any) -> None:
    for key, item in _pairs(name, value):
        _key(name, key, key)
        if item and not names.is_label_value(item):
            raise ManifestError(f"{name}[{key!r}] is {item!r}, which Kubernetes refuses: {_LABEL_RULE}")


def _dns_label(name: str, value: Any) -> None:
    if not names.is_dns_label(_string(name, value)):
        rule = "use at most 63 of a-z, 0-9 and dashes, with a letter or digit at both ends"
        raise ManifestError(f"{name} is {value!r}, which Kubernetes refuses: {rule}")


def _image(name: str, value: Any) -> None:
    if _string(name, value) != value.strip():
        raise ManifestError(f"{name} is {value!r}, which Kubernetes refuses: remove the space around it")


def _annotations(name: str, value: Any) -> None:
    for key, _ in _pairs(name, value):
        prefix, slash, short = key.rpartition("/")
        _key(name, key, prefix.lower() + slash + short)  # of an annotation's key the prefix may be in upper case


def _key(name: str, key: str, normal: str) -> None:
    if not names.is_label_key(normal):
        raise ManifestError(f"{name} has the key {key!r}, which Kubernetes refuses: {_LABEL_RULE}")


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        raise ManifestError(f"{name} is a {type(value).__name__}, a dict is needed")
    for key, item in value.items():
        if not isinstance(key, str):
            raise ManifestError(f"{name} has the key {key!r} ({type(key).__name__}), a string is needed")
        if item is None or is_unrendered(item) or is_unrendered(key):
            continue
        yield key, item if isinstance(item, str) else _string(f"{name}[{key!r}]", item, show=name != "env_vars")


def _strings(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise ManifestError(f"{name} is a {type(value).__name__}, a list of strings is needed")
    for index, item in enumerate(value):
        if not isinstance(item, str) and item is not None and not is_unrendered(item):
            _string(f"{name}[{index}]", item)


def _env_vars(name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, _ in _pairs(name, value):
            _env_name(name, key)
        return
    if not isinstance(value, (list, tuple)):
        raise ManifestError(f"{name} is a {type(value).__name__}, a dict or a list is needed")
    for index, item in enumerate(value):
        if not is_unrendered(item):
            where = f"{name}[{index}]"
            _env_var(where, schema.spell(plain(item), "EnvVar", where))


def _env_var(where: str, variable: Any) -> None:
    if not isinstance(variable, dict):
        raise ManifestError(f"{where} is a {type(variable).__name__}, a dict or V1EnvVar is needed")
    name, value = variable.get("name"), variable.get("value")
    if not is_unrendered(name):
        _env_name(where, name)
    if value is not None and not is_unrendered(value):
        _string(f"{where} ({name})", value, show=False)


def _env_name(where: str, value: Any) -> None:
    if not isinstance(value, str) or not value or "=" in value:
        raise ManifestError(f"{where}: {value!r} is not a name for an environment variable")


def _string(where: str, value: Any, *, show: bool = True) -> str:
    if not isinstance(value, str):
        what = f"{value!r} ({type(value).__name__})" if show else f"of type {type(value).__name__}"
        raise ManifestError(f"{where} is {what}, Kubernetes takes a string there: put it in quotes")
    return value


def _silent(message: str) -> None:
    """Drop warnings: they are logged when the pod is built, not at every parse of the DAG."""


_CHECKS: Mapping[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(CHOICES, _choice),
    **dict.fromkeys(parameters.KINDS, _spelt),
    **dict.fromkeys(NOT_RENDERED, _readable),
    "name": _name,
    "image": _image,
    "namespace": _dns_label,
    "hostname": _dns_label,
    "subdomain": _dns_label,
    "labels": _labels,
    "node_selector": _selector,
    "annotations": _annotations,
    "cmds": _strings,
    "arguments": _strings,
    "configmaps": _strings,
    "env_vars": _env_vars,
}
