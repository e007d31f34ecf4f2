"""Companions: the ordinary containers that a manifest declares besides the base container. Pure.

Native sidecars and the XCom sidecar are not companions, nor are containers that an admission webhook adds to the pod:
the kubelet or the cluster's owner sees to those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from msgspec.structs import replace

from kpo_async.api_types import Pod
from kpo_async.json_types import Json
from kpo_async.pod.status import COMPANIONS_DEADLINE, KILLED, PodState, Verdict, assess
from kpo_async.pod.xcom_sidecar import CONTAINER as XCOM_SIDECAR

STOP: Json = {"spec": {"activeDeadlineSeconds": COMPANIONS_DEADLINE}}
"""The patch that stops a pod's containers, by a deadline in the past. It leaves the pod and its logs to be read."""


class Counted(Protocol):
    """What a task says of its pod's main containers."""

    @property
    def base_container(self) -> str: ...
    @property
    def companions(self) -> Collection[str]: ...
    @property
    def ignore_companions(self) -> bool | Collection[str]: ...


def declared(manifest: Mapping[str, Any], base: str) -> list[str]:
    """Return the names of the companions in a manifest, as it is sent to the API server."""
    names = [container["name"] for container in (manifest.get("spec") or {}).get("containers") or ()]
    return [name for name in names if name not in (base, XCOM_SIDECAR)]


def running(state: PodState, companions: Collection[str]) -> list[str]:
    """Return the companions that may still do something: they run, or are about to."""
    return [name for name in state.running_main_containers if name in companions]


def assess_all(pod: Pod, task: Counted) -> PodState:
    """Return the state of the pod's base container, as failed if it is a companion's failure that fails the task."""
    state = assess(pod, task.base_container)
    if state.verdict is Verdict.SUCCEEDED and first_failed(pod, task) is not None:
        return replace(state, verdict=Verdict.FAILED)
    return state


def first_failed(pod: Pod | None, task: Counted) -> PodState | None:
    """Return the state of the pod as seen from the first companion that failed by itself; None if none did.

    One that was stopped, because the pod was deleted or by this library after the base container's end, has not failed.
    Nor has one that the task ignores.
    """
    ignored = task.ignore_companions
    if pod is None or ignored is True:
        return None
    for name in task.companions:
        if ignored and name in ignored:
            continue
        state = assess(pod, name)
        # A declared container that the pod does not have, as a webhook removed it, has no exit code.
        if state.verdict is Verdict.FAILED and state.exit_code is not None and not _was_stopped(pod, state):
            return state
    return None


def _was_stopped(pod: Pod, state: PodState) -> bool:
    if pod.spec.active_deadline_seconds != COMPANIONS_DEADLINE:
        return False
    # The kubelet may report the end of a container before it gives the pod its reason.
    return state.reason == "DeadlineExceeded" or (state.reason == "Error" and state.exit_code in KILLED)
