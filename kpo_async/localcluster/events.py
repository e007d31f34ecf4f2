"""Records events about pods (`kubectl describe`), as client-go's `tools/record` does for components.

An event that the API refuses is dropped: nothing depends on it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

from kpo_async.localcluster.client import InProcessClient, NotFound, StatusError
from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

_log = logging.getLogger(__name__)

_NAME_LIMIT = 253


class EventRecorder:
    """The kubelet's events about one pod. A repeated event is counted instead of created again."""

    def __init__(self, client: InProcessClient, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock
        self._names: dict[tuple[str, str, str], str] = {}

    def record(self, pod: Object, event_type: str, reason: str, message: str, field: str = "") -> None:
        """`event_type` is Normal or Warning; `field`, such as `spec.containers{base}`, names the container."""
        key = (field, reason, message)
        stamp = times.to_seconds(self._clock())
        if key in self._names and self._count(pod["metadata"]["namespace"], self._names[key], stamp):
            return
        event = _event(pod, self._clock() + len(self._names), event_type, reason, message)
        if field:
            event["involvedObject"]["fieldPath"] = field
        self._names[key] = event["metadata"]["name"]
        _create(
            self._client,
            {
                **event,
                "count": 1,
                "eventTime": None,
                "firstTimestamp": stamp,
                "lastTimestamp": stamp,
                "reportingComponent": "kubelet",
                "reportingInstance": NODE_NAME,
                "source": {"component": "kubelet", "host": NODE_NAME},
            },
        )

    def _count(self, namespace: str, name: str, stamp: str) -> bool:
        """Count a repeated event; False if it has been removed meanwhile."""
        try:
            event = self._client.get("events", namespace, name)
        except NotFound:
            return False
        self._client.update("events", {**event, "count": event.get("count", 1) + 1, "lastTimestamp": stamp})
        return True


def record_scheduling(
    client: InProcessClient, now: int, pod: Object, event_type: str, reason: str, message: str, action: str
) -> None:
    """Record an event of the scheduler about a pod, in the form of events.k8s.io."""
    _create(
        client,
        {
            **_event(pod, now, event_type, reason, message),
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": times.to_micros(now),
            "action": action,
            "reportingComponent": "default-scheduler",
            "reportingInstance": f"default-scheduler-{NODE_NAME}",
        },
    )


def _event(pod: Object, number: int, event_type: str, reason: str, message: str) -> Object:
    """The fields that all events about a pod have; `number` makes the name unique."""
    metadata = pod["metadata"]
    name = f"{metadata['name']}.{number:x}"
    if len(name) > _NAME_LIMIT:
        name = str(uuid.uuid4())
    involved = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": metadata.get("resourceVersion", ""),
        "uid": metadata["uid"],
    }
    return {
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": involved,
        "type": event_type,
        "reason": reason,
        "message": message,
    }


def _create(client: InProcessClient, event: Object) -> None:
    try:
        client.create("events", event)
    except StatusError as error:
        _log.debug("event %s %r is dropped: %s", event["reason"], event["message"], error)
