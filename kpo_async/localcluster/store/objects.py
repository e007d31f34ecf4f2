"""The type of a Kubernetes object, and the few facts about objects that every floor needs."""

from __future__ import annotations

from enum import Enum
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as it is on the wire: plain JSON with camelCase keys."""


class WatchEventType(str, Enum):
    """The type of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    """Carries a version and no change."""
    ERROR = "ERROR"
    """Carries a `Status`; the watch ends with it."""


def has_ended(pod: Object) -> bool:
    """Whether a pod's phase is terminal."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_deleting(obj: Object) -> bool:
    """Whether an object's deletion has been requested."""
    return "deletionTimestamp" in obj["metadata"]


def with_condition(conditions: list[Object], condition: Object, now: str) -> list[Object]:
    """Return the conditions with `condition` in place of an older one of its type.

    `lastTransitionTime` becomes `now` only if the condition's status changes.
    """
    old = next((found for found in conditions if found["type"] == condition["type"]), None)
    since = old["lastTransitionTime"] if old is not None and old["status"] == condition["status"] else now
    new = {**condition, "lastProbeTime": None, "lastTransitionTime": since}
    return [*(found for found in conditions if found["type"] != condition["type"]), new]
