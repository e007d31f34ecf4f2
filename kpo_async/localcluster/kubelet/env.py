"""A container's command and environment, from its spec and the config maps and secrets that it names."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from kpo_async.localcluster.kubelet import downward
from kpo_async.localcluster.store.store import NotFound, Object, Store

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z0-9]+)\)")

_WORDS = {"configmaps": ("configmap", "ConfigMap"), "secrets": ("secret", "Secret")}
"""How error messages name a resource: at the beginning of a sentence's object, and as a kind."""

Values = dict[str, str]


class ConfigError(Exception):
    """A container cannot be created now: the message of CreateContainerConfigError."""


def command(container: dict[str, Any], default: tuple[str, ...], env: Values) -> list[str]:
    """What to execute: `command` and `args` with `$(VAR)` expanded; the image's own command when there is none.

    `args` alone go to an entrypoint, which no image here has: they are the command.
    Raises ConfigError when nothing is left to run.
    """
    words = [*(container.get("command") or ()), *(container.get("args") or ())] or list(default)
    if not words:
        raise ConfigError("failed to generate container spec: no command specified")
    return [expand(word, env) for word in words]


def expand(text: str, values: Values) -> str:
    """`$(NAME)` becomes the value of NAME if there is one, `$$` becomes `$`."""
    return _REFERENCE.sub(lambda found: "$" if found[1] is None else values.get(found[1], found[0]), text)


def environment(store: Store, pod: Object, container: dict[str, Any], cluster: Values) -> Values:
    """All variables of a container; `cluster` are those that every container gets. Raises ConfigError."""
    source = _Source(store, pod["metadata"]["namespace"])
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
    """The host name of a pod's containers."""
    spec = pod["spec"]
    name = spec.get("nodeName") if spec.get("hostNetwork") else spec.get("hostname")
    return str(name or pod["metadata"]["name"])[:63].rstrip("-.")


def _value_from(source: _Source, pod: Object, container: dict[str, Any], reference: dict[str, Any]) -> str | None:
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
        raise ConfigError(str(error)) from error


def content(resource: str, obj: Object) -> dict[str, bytes]:
    """The entries of a config map or secret as bytes."""
    if resource == "secrets":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    plain = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    return plain | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


class _Source:
    """Config maps and secrets of one namespace."""

    def __init__(self, store: Store, namespace: str) -> None:
        self.store = store
        self.namespace = namespace

    def _content(self, resource: str, name: str) -> dict[str, bytes] | None:
        try:
            return content(resource, self.store.get(resource, self.namespace, name))
        except NotFound:
            return None

    def key(self, resource: str, reference: dict[str, Any]) -> str | None:
        name, key, optional = reference.get("name", ""), reference["key"], reference.get("optional", False)
        lower, title = _WORDS[resource]
        found = self._content(resource, name)
        if found is None:
            if optional:
                return None
            raise ConfigError(f'{lower} "{name}" not found')
        if key not in found:
            if optional:
                return None
            raise ConfigError(f"couldn't find key {key} in {title} {self.namespace}/{name}")
        return found[key].decode(errors="replace")

    def all_of(self, entry: dict[str, Any]) -> Values:
        resource = "configmaps" if "configMapRef" in entry else "secrets"
        reference = entry["configMapRef" if resource == "configmaps" else "secretRef"]
        name = reference.get("name", "")
        found = self._content(resource, name)
        if found is None:
            if reference.get("optional", False):
                return {}
            raise ConfigError(f'{_WORDS[resource][0]} "{name}" not found')
        prefix = entry.get("prefix") or ""
        return {prefix + key: value.decode(errors="replace") for key, value in found.items()}
