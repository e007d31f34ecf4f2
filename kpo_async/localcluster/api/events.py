"""The events of pods (`kubectl describe`): an object for each thing that happens, counted when it happens again."""

from __future__ import annotations

from typing import Any

from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import NotFound, Object, Store


class EventRecorder:
    """The kubelet's events about one pod."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[tuple[str, str, str], str] = {}

    def record(self, pod: Object, kind: str, reason: str, message: str, field: str = "") -> None:
        """`kind` is Normal or Warning; `field` such as `spec.containers{base}` says which container it is about."""
        namespace = pod["metadata"]["namespace"]
        key = (field, reason, message)
        now = self._store.clock()
        if key in self._names:
            try:
                event = self._store.get("events", namespace, self._names[key])
            except NotFound:
                pass  # somebody deleted it: begin anew
            else:
                again = {"count": event.get("count", 1) + 1, "lastTimestamp": times.to_seconds(now)}
                self._store.update("events", {**event, **again})
                return
        name = f"{pod['metadata']['name']}.{now + len(self._names):x}"
        self._names[key] = name
        self._store.create("events", _event(pod, name, now, kind, reason, message, field))


def _event(pod: Object, name: str, now: int, kind: str, reason: str, message: str, field: str) -> dict[str, Any]:
    metadata = pod["metadata"]
    stamp = times.to_seconds(now)
    involved = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": metadata.get("resourceVersion", ""),
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {**involved, **({"fieldPath": field} if field else {})},
        "type": kind,
        "reason": reason,
        "message": message,
        "count": 1,
        "eventTime": None,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "reportingComponent": "kubelet",
        "reportingInstance": NODE_NAME,
        "source": {"component": "kubelet", "host": NODE_NAME},
    }
