"""Tables, as `kubectl get` requests them (`Accept: application/json;as=Table`): their columns and cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.api import pod_table
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

Cells = Callable[[Object, int], list[Any]]
"""Returns the cells of an object; the second argument is the current time in nanoseconds since the epoch."""


@dataclass(frozen=True)
class Column:
    """A column's definition."""

    name: str
    priority: int = 0
    format: str = ""

    def to_dict(self) -> Object:
        """Return the column as in `columnDefinitions`."""
        return {
            "name": self.name,
            "type": "string",
            "format": self.format,
            "description": "",
            "priority": self.priority,
        }


@dataclass(frozen=True)
class Layout:
    """The table of a resource."""

    columns: tuple[Column, ...]
    cells: Cells


_NAME = Column("Name", format="name")
_AGE = Column("Age")


def age(instant: str | None, now: int) -> str:
    """Return the time since an instant as kubectl's HumanDuration writes it: `5m`, `2d3h`."""
    if not instant:
        return "<unknown>"
    seconds = max(0, (now - times.parse(instant)) // times.SECOND)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y"


def _age_of(obj: Object, now: int) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _plain(obj: Object, now: int) -> list[Any]:
    return [obj["metadata"]["name"], _age_of(obj, now)]


def _pod(pod: Object, now: int) -> list[Any]:
    summary = pod_table.summarize(pod)
    restarts = str(summary.restarts)
    if summary.restarts and summary.restarted_at:
        restarts += f" ({age(summary.restarted_at, now)} ago)"
    status, spec = pod.get("status", {}), pod["spec"]
    return [
        pod["metadata"]["name"],
        f"{summary.ready}/{summary.total}",
        summary.reason,
        restarts,
        _age_of(pod, now),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        "<none>",
    ]


def _event(event: Object, now: int) -> list[Any]:
    about = event["involvedObject"]
    seen = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    return [
        age(seen, now),
        event.get("type", ""),
        event.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        event.get("message", "").strip(),
        event["metadata"]["name"],
    ]


def _node(node: Object, now: int) -> list[Any]:
    conditions = {found["type"]: found["status"] for found in node["status"].get("conditions", [])}
    status = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    if node["spec"].get("unschedulable"):
        status += ",SchedulingDisabled"
    version = node["status"].get("nodeInfo", {}).get("kubeletVersion", "")
    return [node["metadata"]["name"], status, "<none>", _age_of(node, now), version]


def _secret(secret: Object, now: int) -> list[Any]:
    return [secret["metadata"]["name"], secret["type"], len(secret.get("data", {})), _age_of(secret, now)]


def _config_map(config: Object, now: int) -> list[Any]:
    count = len(config.get("data", {})) + len(config.get("binaryData", {}))
    return [config["metadata"]["name"], count, _age_of(config, now)]


def _namespace(namespace: Object, now: int) -> list[Any]:
    return [namespace["metadata"]["name"], namespace["status"]["phase"], _age_of(namespace, now)]


_PLAIN = Layout((_NAME, _AGE), _plain)
_LAYOUTS = {
    "pods": Layout(
        (
            _NAME,
            Column("Ready"),
            Column("Status"),
            Column("Restarts"),
            _AGE,
            Column("IP", 1),
            Column("Node", 1),
            Column("Nominated Node", 1),
            Column("Readiness Gates", 1),
        ),
        _pod,
    ),
    "events": Layout(
        (
            Column("Last Seen"),
            Column("Type"),
            Column("Reason"),
            Column("Object"),
            Column("Message"),
            Column("Name", 1, "name"),
        ),
        _event,
    ),
    "nodes": Layout((_NAME, Column("Status"), Column("Roles"), _AGE, Column("Version")), _node),
    "secrets": Layout((_NAME, Column("Type"), Column("Data"), _AGE), _secret),
    "configmaps": Layout((_NAME, Column("Data"), _AGE), _config_map),
    "namespaces": Layout((_NAME, Column("Status"), _AGE), _namespace),
}


def table(
    resource: str, objects: Iterable[Object], metadata: Object, now: int, *, columns: bool = True, include: str = ""
) -> Object:
    """Return a meta/v1 Table; `columns` False omits their definitions, as later events of a watch do."""
    layout = _LAYOUTS.get(resource, _PLAIN)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [column.to_dict() for column in layout.columns] if columns else None,
        "rows": [{"cells": layout.cells(obj, now), "object": _row_object(obj, include)} for obj in objects],
    }


def partial(obj: Object) -> Object:
    """Return a meta/v1 PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _row_object(obj: Object, include: str) -> Object | None:
    match include:
        case "None":
            return None
        case "Object":
            return obj
    return partial(obj)
