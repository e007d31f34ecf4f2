"""A container's command and environment, from its spec and the config maps and secrets that it refers to."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from kpo_async.localcluster.client import InProcessClient, NotFound
from kpo_async.localcluster.kubelet import downward
from kpo_async.localcluster.store.objects import Object

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z0-9]+)\)")

_WORDS = {"configmaps": ("configmap", "ConfigMap"), "secrets": ("secret", "Secret")}
"""Names of a resource in error messages: of one object, and as a kind."""

Values = dict[str, str]


class ContainerConfigError(Exception):
    """A container cannot be created for now: the message of CreateContainerConfigError."""


def command(container: Object, default: tuple[str, ...], env: Values) -> list[str]:
    """Return the words to execute: `command` and `args` with `$(VAR)` expanded, or else the image's own command.

    Images have no entrypoint, so `args` alone are the command. Raises ContainerConfigError when there is no word.
    """
    words = [*(container.get("command") or ()), *(container.get("args") or ())] or list(default)
    if not words:
        raise ContainerConfigError("failed to generate container spec: no command specified")
    return [expand(word, env) for word in words]


def expand(text: str, values: Values) -> str:
    """Replace `$(NAME)` by the value of NAME if there is one, and `$$` by `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else values.get(found[1], found[0]), text)


def environment(client: InProcessClient, pod: Object, container: Object, cluster: Values) -> Values:
    """Return all variables of a container; `cluster` has those of every container. Raises ContainerConfigError."""
    source = _Source(client, pod["metadata"]["namespace"])
    values = {"PATH": PATH, "HOSTNAME": hostname(pod), "HOME": "/root", **cluster}
    for entry in container.get("envFrom") or ():
        values |= source.all_of(entry)
    for entry in container.get("env") or ():
        if "valueFrom" in entry:
            found = _value_from(source, pod, container, entry["valueFrom"])
            if found is not None:
                values[entry["name"]] = found
        else:
            values[entry["name"]] = expand(entry.get("value") or "", values)
    return values


def hostname(pod: Object) -> str:
    """Return the host name of a pod's containers."""
    spec = pod["spec"]
    name = spec.get("nodeName") if spec.get("hostNetwork") else spec.get("hostname")
    return str(name or pod["metadata"]["name"])[:63].rstrip("-.")


def _value_from(source: _Source, pod: Object, container: Object, reference: Object) -> str | None:
    if "fieldRef" in reference:
        return _downward(lambda: downward.field_value(pod, reference["fieldRef"]["fieldPath"]))
    if "resourceFieldRef" in reference:
        return _downward(lambda: downward.resource_value(pod, container, reference["resourceFieldRef"]))
    if "configMapKeyRef" in reference:
        return source.key("configmaps", reference["configMapKeyRef"])
    return source.key("secrets", reference["secretKeyRef"])


def _downward(read: Callable[[], str]) -> str:
    try:
        return read()
    except downward.UnknownField as error:
        raise ContainerConfigError(str(error)) from error


def content(resource: str, obj: Object) -> dict[str, bytes]:
    """Return the entries of a config map or secret as bytes."""
    if resource == "secrets":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


class _Source:
    """Config maps and secrets of one namespace."""

    def __init__(self, client: InProcessClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    def _content(self, resource: str, name: str) -> dict[str, bytes] | None:
        try:
            return content(resource, self.client.get(resource, self.namespace, name))
        except NotFound:
            return None

    def key(self, resource: str, reference: Object) -> str | None:
        """Return the value of one key, None if it is optional and missing."""
        name, key, optional = reference.get("name", ""), reference["key"], reference.get("optional", False)
        lower, title = _WORDS[resource]
        found = self._content(resource, name)
        if found is None:
            if optional:
                return None
            raise ContainerConfigError(f'{lower} "{name}" not found')
        if key not in found:
            if optional:
                return None
            raise ContainerConfigError(f"couldn't find key {key} in {title} {self.namespace}/{name}")
        return found[key].decode(errors="replace")

    def all_of(self, entry: Object) -> Values:
        """Return the variables of an `envFrom` entry."""
        resource = "configmaps" if "configMapRef" in entry else "secrets"
        reference = entry["configMapRef" if resource == "configmaps" else "secretRef"]
        name = reference.get("name", "")
        found = self._content(resource, name)
        if found is None:
            if reference.get("optional", False):
                return {}
            raise ContainerConfigError(f'{_WORDS[resource][0]} "{name}" not found')
        prefix = entry.get("prefix") or ""
        return {prefix + key: value.decode(errors="replace") for key, value in found.items()}
