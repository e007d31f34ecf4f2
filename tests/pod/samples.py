"""Pods for tests: recorded from a real Kubernetes 1.34, and made up piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kpo_async.api_types import Event, Pod, pod_from_dict

DATA = Path(__file__).parent / "data"
RECORDED = sorted(path.stem for path in DATA.glob("*.json"))


def recorded(name: str) -> Pod:
    """A pod as the API server showed it."""
    return pod_from_dict(json.loads((DATA / f"{name}.json").read_text()))


def at(second: int) -> str:
    """A moment of the day on which all of these pods lived."""
    return f"2026-11-21T09:{second // 60:02d}:{second % 60:02d}Z"


def pod(
    *,
    phase: str | None = "Running",
    reason: str | None = None,
    statuses: list[dict[str, Any]] | None = None,
    init_statuses: list[dict[str, Any]] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    containers: list[dict[str, Any]] | None = None,
    init_containers: list[dict[str, Any]] | None = None,
    node: str | None = "node-1",
    deadline: int | None = None,
    **metadata: Any,
) -> Pod:
    """A pod created at second 0."""
    scheduled = {"type": "PodScheduled", "status": "True" if node else "False", "lastTransitionTime": at(1)}
    status = {
        "phase": phase,
        "reason": reason,
        "startTime": at(1) if node else None,
        "conditions": [scheduled, *(conditions or [])],
        "containerStatuses": statuses,
        "initContainerStatuses": init_statuses,
    }
    spec = {
        "nodeName": node,
        "containers": [{"name": "base"}] if containers is None else containers,
        "initContainers": init_containers,
        "activeDeadlineSeconds": deadline,
    }
    return pod_from_dict(
        {
            "metadata": {"name": "p", "namespace": "jobs", "creationTimestamp": at(0), **metadata},
            "spec": spec,
            "status": status,
        }
    )


def running(name: str = "base", since: int = 5) -> dict[str, Any]:
    return {"name": name, "state": {"running": {"startedAt": at(since)}}}


def ended(name: str = "base", code: int = 0, *, finished: int = 60, **more: Any) -> dict[str, Any]:
    terminated = {"exitCode": code, "startedAt": at(5), "finishedAt": at(finished), **more}
    return {"name": name, "state": {"terminated": terminated}}


def waiting(name: str = "base", reason: str | None = None, message: str | None = None) -> dict[str, Any]:
    return {"name": name, "state": {"waiting": {"reason": reason, "message": message}}}


def condition(kind: str, status: str = "True", *, since: int = 30, **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": at(since), **more}


def warning(reason: str, message: str, second: int = 10) -> Event:
    return Event(type="Warning", reason=reason, message=message, last_timestamp=at(second))
