"""Assess a pod from its status. With `containers`, the only reader of `.status`.

Total: any combination of phase, container statuses, conditions and deletionTimestamp gives a state; nothing raises.
The verdict is how the base container ended; sidecars never matter. There is no clock: whatever depends on the time of
day is returned as a moment (`lost_at`, `start.fatal_at`) that the caller compares with its own clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from kpo_async.api_types import ContainerStateTerminated, Pod, PodCondition
from kpo_async.compat import StrEnum
from kpo_async.pod.containers import TERMINAL_PHASES, Container, ContainerKind, containers_of, status_of
from kpo_async.pod.timestamps import parse_time

DISRUPTION_REASONS = frozenset(
    {
        "Evicted",
        "NodeAffinity",
        "NodeLost",
        "NodeShutdown",
        "Preempting",
        "Shutdown",
        "Terminated",
        "UnexpectedAdmissionError",
    }
)
"""`status.reason` of pods that the cluster ended, not the program (kubelet and node lifecycle controller)."""

UNREACHABLE_GRACE = timedelta(seconds=30)
"""How long after its deletionTimestamp a pod's node may still report; after that it is unreachable."""
UNKNOWN_GRACE = timedelta(minutes=5)
"""How long phase Unknown is tolerated: Kubernetes' default toleration of an unreachable node."""

COMPANIONS_DEADLINE = 1
"""`activeDeadlineSeconds` that this library sets to stop containers that outlive the base container."""

_STATUS_UNKNOWN = "ContainerStatusUnknown"
"""The kubelet's reason for a container of which it found no trace; it invents exit code 137."""
KILLED = (137, 143)
"""Exit codes of a container that SIGKILL or SIGTERM ended."""


class Verdict(StrEnum):
    """How far the pod has come. The last three are final."""

    PENDING = "pending"
    """Not on a node yet."""
    STARTING = "starting"
    """On a node; the base container has not run yet."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """The base container exited with 0."""
    FAILED = "failed"
    """The base container exited with another code, or will never run for a reason of the pod's own."""
    LOST = "lost"
    """The cluster ended the pod before the base container ended by itself."""

    @property
    def ended(self) -> bool:
        return self in (Verdict.SUCCEEDED, Verdict.FAILED, Verdict.LOST)


class PodState(msgspec.Struct, frozen=True):
    """A pod's assessed status. Times are Kubernetes' own, in whole seconds."""

    verdict: Verdict
    base: str
    """The name of the container that decides the verdict."""
    phase: str = ""
    exit_code: int | None = None
    """The base container's."""
    signal: int | None = None
    reason: str = ""
    """Kubernetes' reason: the pod's (Evicted, DeadlineExceeded) or the base container's (OOMKilled)."""
    message: str = ""
    node: str = ""
    created_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    terminating: bool = False
    lost_at: datetime | None = None
    """When to stop waiting for a pod whose node may not report any more; None while nothing suggests that."""
    scheduling: str = ""
    """The scheduler's message about why it found no node."""
    gated: bool = False
    """Scheduling gates hold the pod back; the schedule timeout does not run."""
    waiting: Container | None = None
    """The first container, in spec order, that waits for a reason other than an ordinary start."""
    containers: tuple[Container, ...] = ()
    """In spec order, init containers first."""

    def container(self, name: str) -> Container | None:
        return next((container for container in self.containers if container.name == name), None)

    @property
    def active(self) -> bool:
        """Whether a main container may still run. Sidecars do not count: they end by themselves."""
        return not self.verdict.ended or bool(self.running_main_containers)

    @property
    def running_main_containers(self) -> tuple[str, ...]:
        """Main containers besides the base that still run; the kubelet stops native sidecars after them."""
        return tuple(
            c.name for c in self.containers if c.kind is ContainerKind.MAIN and c.name != self.base and not c.ended
        )


def assess(pod: Pod | None, base: str, *, gone: bool = False) -> PodState:
    """Assess `pod`, whose main container is `base`.

    `gone`: the pod no longer exists; `pod` is its last known state, or None.
    """
    if pod is None:
        return PodState(Verdict.LOST, base, reason="Deleted") if gone else PodState(Verdict.PENDING, base)
    containers = containers_of(pod)
    end = _base_end(pod, base)
    scheduled = _condition(pod, "PodScheduled")
    verdict, reason, message = _verdict(pod, base, end, gone)
    current = next((c for c in containers if c.name == base), None)
    exit_code = end.exit_code if end is not None else None
    return PodState(
        verdict=verdict,
        base=base,
        phase=pod.status.phase or "",
        exit_code=exit_code,
        signal=_signal(end),
        reason=reason,
        message=message,
        node=pod.spec.node_name or "",
        created_at=parse_time(pod.metadata.creation_timestamp),
        scheduled_at=parse_time(scheduled.last_transition_time) if scheduled and scheduled.status == "True" else None,
        started_at=current.started_at if current else None,
        finished_at=parse_time(end.finished_at) if end is not None else None,
        terminating=bool(pod.metadata.deletion_timestamp),
        lost_at=None if verdict.ended else _lost_at(pod),
        scheduling=(scheduled.message or "") if scheduled and scheduled.status != "True" else "",
        gated=bool(pod.spec.scheduling_gates) and not pod.spec.node_name,
        waiting=next((c for c in containers if c.waiting and c.reason not in _ORDINARY_WAITS), None),
        containers=containers,
    )


_ORDINARY_WAITS = ("", "ContainerCreating", "PodInitializing")


def _verdict(pod: Pod, base: str, end: ContainerStateTerminated | None, gone: bool) -> tuple[Verdict, str, str]:
    """Return the verdict with its reason and message."""
    phase, reason, message = pod.status.phase, pod.status.reason or "", pod.status.message or ""
    disruption = _disruption(pod)
    if end is not None:
        if end.exit_code == 0 and end.reason != _STATUS_UNKNOWN:
            return _stopped_by_kubelet(pod, end, disruption) or (Verdict.SUCCEEDED, end.reason or "", end.message or "")
        if (cause := _taken_away(pod, end, disruption)) is not None:
            return Verdict.LOST, *cause
        if reason and end.exit_code in KILLED:
            return Verdict.FAILED, reason, message or end.message or ""
        if end.reason == "Error" and end.exit_code in KILLED and _ended_at_deadline(pod, end):
            return Verdict.FAILED, "DeadlineExceeded", message  # the pod's reason follows
        # The pod's own reason (DeadlineExceeded) may be about other containers, which went on after this one.
        return Verdict.FAILED, end.reason or reason, end.message or message
    if phase == "Succeeded":
        return Verdict.SUCCEEDED, reason, message
    if phase == "Failed":
        return _failed_without_base(pod, base, disruption)
    if gone:
        if disruption is not None:
            return Verdict.LOST, disruption.reason or "DisruptionTarget", disruption.message or ""
        return Verdict.LOST, reason or "Deleted", message
    return _underway(pod, base), reason, message


def _underway(pod: Pod, base: str) -> Verdict:
    status = status_of(pod, base)
    if status is not None:
        runs = status.state is not None and status.state.running is not None
        ran = status.last_state is not None and status.last_state.terminated is not None
        if runs or ran:
            return Verdict.RUNNING
    scheduled = _condition(pod, "PodScheduled")
    on_node = pod.spec.node_name or (scheduled is not None and scheduled.status == "True")
    return Verdict.STARTING if on_node else Verdict.PENDING


def _failed_without_base(pod: Pod, base: str, disruption: PodCondition | None) -> tuple[Verdict, str, str]:
    """Return the verdict on a pod in phase Failed whose base container has no exit code."""
    reason, message = pod.status.reason or "", pod.status.message or ""
    if disruption is not None:
        return Verdict.LOST, reason or disruption.reason or "DisruptionTarget", message or disruption.message or ""
    if _is_disruption(reason):
        return Verdict.LOST, reason, message
    base_status = status_of(pod, base)
    if reason != "DeadlineExceeded" and base_status and base_status.state and base_status.state.running:
        return Verdict.LOST, reason or "NodeLost", message or "the pod failed while its container was still running"
    failed_init = next((c for c in containers_of(pod) if c.kind is ContainerKind.INIT and c.exit_code), None)
    if failed_init is not None:
        return Verdict.FAILED, reason or failed_init.reason or "InitError", message or failed_init.message
    if not reason and not pod.status.container_statuses and not pod.status.init_container_statuses:
        # Preempted before the kubelet made its containers: no container has a status, and there is no reason.
        return Verdict.LOST, "NoStatus", message or "the pod failed before any of its containers was made"
    if pod.metadata.deletion_timestamp:
        return Verdict.LOST, reason or "Deleted", message or "the pod was deleted before its container had run"
    return Verdict.FAILED, reason, message or f"container {base!r} never ran"


def _taken_away(pod: Pod, end: ContainerStateTerminated, disruption: PodCondition | None) -> tuple[str, str] | None:
    """Return reason and message if the base container was stopped from outside, None if it failed by itself."""
    if _is_disruption(pod.status.reason or ""):
        return pod.status.reason or "", pod.status.message or ""
    finished, killed = parse_time(end.finished_at), end.exit_code in KILLED
    if disruption is not None and _follows(finished, parse_time(disruption.last_transition_time), killed):
        return disruption.reason or "DisruptionTarget", disruption.message or ""
    if pod.metadata.deletion_timestamp and _follows(finished, _deletion_requested(pod), killed):
        return "Deleted", "the pod was deleted while its container was running"
    if end.reason == _STATUS_UNKNOWN:
        return _STATUS_UNKNOWN, end.message or "the node lost track of the container"
    return None


def _stopped_by_kubelet(
    pod: Pod, end: ContainerStateTerminated, disruption: PodCondition | None
) -> tuple[Verdict, str, str] | None:
    """Return the verdict on a program that exited with 0 because the kubelet stopped it: its work is not done."""
    finished, reason, message = parse_time(end.finished_at), pod.status.reason, pod.status.message or ""
    kubelet = disruption if disruption is not None and disruption.reason == "TerminationByKubelet" else None
    if kubelet is not None and _follows(finished, parse_time(kubelet.last_transition_time), killed=False):
        return Verdict.LOST, reason or kubelet.reason or "", message or kubelet.message or ""
    ready = _condition(pod, "Ready")
    # The condition says so at once, the phase only after all containers have ended.
    failed = pod.status.phase == "Failed" or (ready is not None and ready.reason == "PodFailed")
    if failed and _ended_at_deadline(pod, end):
        return Verdict.FAILED, "DeadlineExceeded", message
    return None


def _ended_at_deadline(pod: Pod, end: ContainerStateTerminated) -> bool:
    """Whether the base container ended when the pod's `activeDeadlineSeconds` were over, which are the task's own."""
    seconds = pod.spec.active_deadline_seconds or 0
    started, finished = parse_time(pod.status.start_time), parse_time(end.finished_at)
    if started is None or finished is None or seconds in (0, COMPANIONS_DEADLINE):
        return False
    return finished >= started + timedelta(seconds=seconds)


def _follows(finished: datetime | None, cause: datetime | None, killed: bool) -> bool:
    """Whether `cause` ended the container. Within the same second the exit code decides."""
    if finished is None or cause is None:
        return killed
    return finished > cause or (finished == cause and killed)


def _base_end(pod: Pod, base: str) -> ContainerStateTerminated | None:
    """Return how the base container ended, or None while it may run (again)."""
    status = status_of(pod, base)
    if status is None:
        return None
    if status.state is not None and status.state.terminated is not None:
        return status.state.terminated
    if pod.status.phase in TERMINAL_PHASES and status.last_state is not None:
        return status.last_state.terminated
    return None


def _lost_at(pod: Pod) -> datetime | None:
    deletion = parse_time(pod.metadata.deletion_timestamp)
    if deletion is not None:
        return deletion + UNREACHABLE_GRACE
    ready = _condition(pod, "Ready")
    if pod.status.phase == "Unknown":
        since = parse_time(ready.last_transition_time) if ready is not None else None
        since = since or parse_time(pod.status.start_time) or parse_time(pod.metadata.creation_timestamp)
        return since + UNKNOWN_GRACE if since is not None else None
    return None


def _deletion_requested(pod: Pod) -> datetime | None:
    """Return when the deletion was requested: deletionTimestamp is the end of the grace period."""
    end = parse_time(pod.metadata.deletion_timestamp)
    grace = pod.metadata.deletion_grace_period_seconds
    if end is None:
        return None
    if not grace:
        # The last update before the removal sets the grace period to 0 and keeps the timestamp.
        grace = 30 if pod.spec.termination_grace_period_seconds is None else pod.spec.termination_grace_period_seconds
    return end - timedelta(seconds=max(0, grace))


def _condition(pod: Pod, kind: str) -> PodCondition | None:
    return next((c for c in pod.status.conditions or () if c.type == kind), None)


def _disruption(pod: Pod) -> PodCondition | None:
    """Return the DisruptionTarget condition (KEP-3329) if it is true."""
    found = _condition(pod, "DisruptionTarget")
    return found if found is not None and found.status == "True" else None


def _is_disruption(reason: str) -> bool:
    return reason in DISRUPTION_REASONS or reason.startswith("OutOf")


def _signal(end: ContainerStateTerminated | None) -> int | None:
    """Return the signal that ended the container: reported, or by the shells' convention of 128 + signal."""
    if end is None:
        return None
    if end.signal:
        return end.signal
    return end.exit_code - 128 if 128 < end.exit_code <= 128 + 64 else None
