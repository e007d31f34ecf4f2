"""The downward API: a pod's own fields, as environment variables and files of its containers."""

from __future__ import annotations

import math
import os
import re
from fractions import Fraction

from kpo_async.localcluster.store import quantity
from kpo_async.localcluster.store.objects import Object

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class UnknownField(Exception):
    """The downward API has no such fieldPath or resource."""


def field_value(pod: Object, path: str) -> str:
    """Return the text of a `fieldRef.fieldPath`. Raises UnknownField."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.removeprefix("metadata.")])
        case "metadata.labels" | "metadata.annotations":
            entries = metadata.get(path.removeprefix("metadata.")) or {}
            return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted(entries.items()))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.removeprefix("spec."), ""))
        case "status.podIP" | "status.hostIP":
            return str(status.get(path.removeprefix("status."), ""))
        case "status.podIPs" | "status.hostIPs":
            return ",".join(entry["ip"] for entry in status.get(path.removeprefix("status."), ()))
    raise UnknownField(f"unsupported fieldPath: {path}")


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def resource_value(pod: Object, container: Object, reference: Object) -> str:
    """Return the number of a `resourceFieldRef`, rounded up in units of its divisor. Raises UnknownField."""
    name = reference.get("containerName")
    if name:
        container = next(entry for entry in _containers(pod) if entry["name"] == name)
    kind, _, resource = reference["resource"].partition(".")
    if kind not in ("limits", "requests"):
        raise UnknownField(f"unsupported container resource: {reference['resource']}")
    resources = container.get("resources") or {}
    text = (resources.get(kind) or resources.get("limits") or {}).get(resource)
    amount = quantity.parse(str(text)) if text is not None else _node_capacity(kind, resource)
    divisor = quantity.parse(str(reference.get("divisor") or "1")) or Fraction(1)
    return str(math.ceil(amount / divisor))


def _containers(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def _node_capacity(kind: str, resource: str) -> Fraction:
    """The limit of a container that sets none: all of the node."""
    if kind == "limits" and resource == "cpu":
        return Fraction(os.cpu_count() or 1)
    if kind == "limits" and resource == "memory":
        return Fraction(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Fraction(0)
