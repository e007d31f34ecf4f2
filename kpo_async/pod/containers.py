"""A pod's containers according to its status: which run, which have ended and how."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from kpo_async.api_types import ContainerState, ContainerStatus, Pod
from kpo_async.compat import StrEnum
from kpo_async.pod.timestamps import parse_time

TERMINAL_PHASES = ("Succeeded", "Failed")
_NONE = ContainerState()


class ContainerKind(StrEnum):
    INIT = "init"
    SIDECAR = "sidecar"
    """An init container with restartPolicy Always (KEP-753)."""
    MAIN = "main"


class Container(msgspec.Struct, frozen=True):
    """One container as the kubelet reports it, or as the spec declares it while the kubelet reports nothing."""

    name: str
    kind: ContainerKind
    image: str = ""
    started: bool = False
    """It runs or has run, so it has a log."""
    ended: bool = False
    """It does not run and will not run again, so its log is complete."""
    exit_code: int | None = None
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    waiting: bool = False
    """`reason` and `message` say why it is waiting, not how it ended."""
    restarts: int = 0


def containers_of(pod: Pod) -> tuple[Container, ...]:
    """Return every container of the spec in order, then those that only the status has."""
    over = pod.status.phase in TERMINAL_PHASES
    found: dict[str, Container] = {}
    specs = [(s, True) for s in pod.spec.init_containers or ()] + [(s, False) for s in pod.spec.containers or ()]
    statuses = {s.name: s for s in _statuses(pod)}
    for spec, init in specs:
        kind = ContainerKind.MAIN
        if init:
            kind = ContainerKind.SIDECAR if spec.restart_policy == "Always" else ContainerKind.INIT
        found[spec.name] = _container(spec.name, kind, spec.image or "", statuses.pop(spec.name, None), over)
    init_names = {s.name for s in pod.status.init_container_statuses or ()}
    for name, status in statuses.items():
        kind = ContainerKind.INIT if name in init_names else ContainerKind.MAIN
        found[name] = _container(name, kind, status.image or "", status, over)
    return tuple(found.values())


def _container(name: str, kind: ContainerKind, image: str, status: ContainerStatus | None, over: bool) -> Container:
    if status is None:
        return Container(name, kind, image, ended=over)
    state, last = status.state or _NONE, status.last_state or _NONE
    if (end := state.terminated) is not None:
        return Container(
            name,
            kind,
            image,
            started=end.reason != "StartError",
            ended=over or kind is not ContainerKind.SIDECAR,
            exit_code=end.exit_code,
            reason=end.reason or "",
            message=end.message or "",
            started_at=parse_time(end.started_at),
            finished_at=parse_time(end.finished_at),
            restarts=status.restart_count,
        )
    waiting, running = state.waiting, state.running
    return Container(
        name,
        kind,
        image,
        started=running is not None or last.terminated is not None,
        ended=over,
        reason=(waiting.reason or "") if waiting else "",
        message=(waiting.message or "") if waiting else "",
        started_at=parse_time(running.started_at) if running else None,
        waiting=waiting is not None,
        restarts=status.restart_count,
    )


def _statuses(pod: Pod) -> Iterable[ContainerStatus]:
    yield from pod.status.init_container_statuses or ()
    yield from pod.status.container_statuses or ()


def status_of(pod: Pod, name: str) -> ContainerStatus | None:
    return next((s for s in pod.status.container_statuses or () if s.name == name), None)
