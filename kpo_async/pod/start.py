"""Why a pod does not start, and when that becomes final. Pure functions of the pod; no clock.

A problem carries the moment at which it becomes final (`fatal_at`), so that a caller sets one timer instead of polling.
A problem that may heal by itself (a registry that throttles, a full cluster) has no such moment and ends at the task's
deadlines, which count from Kubernetes' own timestamps: `schedule_timeout_seconds` from created to scheduled,
`startup_timeout_seconds` from scheduled to started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from kpo_async.api_types import Pod
from kpo_async.compat import StrEnum
from kpo_async.pod.containers import Container, ContainerKind
from kpo_async.pod.status import PodState, Verdict

_SECOND = timedelta(seconds=1)
_NEVER = datetime.max.replace(tzinfo=timezone.utc)

GRACE: dict[str, timedelta] = {
    "InvalidImageName": 0 * _SECOND,
    "ErrImageNeverPull": 0 * _SECOND,
    "SignatureValidationFailed": 5 * _SECOND,
    "CreateContainerConfigError": 10 * _SECOND,
    "CreateContainerError": 20 * _SECOND,
    "RunContainerError": 20 * _SECOND,
    "PostStartHookError": 20 * _SECOND,
    "PreCreateHookError": 20 * _SECOND,
    "PreStartHookError": 20 * _SECOND,
    "CrashLoopBackOff": 25 * _SECOND,
}
"""How long a container may wait for this reason, counted from when it could have started.

A missing ConfigMap or Secret may be on its way in the same `kubectl apply`: 10 s. The kubelet retries every few seconds
what the runtime of a busy node refused: 20 s. A permanent cause is thus reported within half a minute.
"""

IMAGE_GRACE = 8 * _SECOND
"""For a pull that the registry refused; long enough for one more try, in case a push is just finishing."""
HOST_GRACE = 20 * _SECOND
"""For a registry whose name does not resolve; a DNS server that restarts gives the same answer for a while."""

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"})

_TRANSIENT = re.compile(
    r"unexpected status.{0,200}: (?:429|5\d\d)\b|too ?many ?requests|rate.?limit|account limit|qps exceeded"
    r"|quota exceeded|time-?d? ?-?out|deadline exceeded|connection re(?:set|fused)|broken pipe|\beof\b"
    r"|bad gateway|gateway time|service unavailable|temporarily unavailable|internal server error|temporary failure"
    r"|no route to host|network is unreachable|server misbehaving|context canceled|try again|no space left"
    r"|registry is unavailable|failed to sync (?:configmap|secret) cache",
    re.IGNORECASE,
)
_PERMANENT = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|no match for platform|unauthorized|denied|forbidden"
    r"|authorization failed|authentication required|insufficient_scope|no basic auth credentials|invalid reference"
    r"|certificate signed by unknown authority|certificate is not valid|server gave http response to https"
    r"|unsupported (?:media|manifest)|schema ?1 |no image found",
    re.IGNORECASE,
)
_UNKNOWN_HOST = re.compile(r"no such host", re.IGNORECASE)


class Deadline(StrEnum):
    """The timeout that is running."""

    SCHEDULE = "schedule"
    START = "start"


@dataclass(frozen=True)
class StartDeadline:
    kind: Deadline
    at: datetime


@dataclass(frozen=True)
class StartProblem:
    """A container that cannot start, or might not."""

    container: str
    reason: str
    message: str
    image: str = ""
    fatal_at: datetime | None = None
    """The moment at which this becomes final; None if it may heal by itself."""


def start_problem(pod: Pod, state: PodState) -> StartProblem | None:
    """Return what keeps `pod` from starting, the problem that becomes final first; None once the pod has run."""
    if state.verdict not in (Verdict.PENDING, Verdict.STARTING):
        return None
    if (missing := _no_such_container(pod, state)) is not None:
        return missing
    problems = [problem for container in state.containers if (problem := _problem_of(container, state)) is not None]
    return min(problems, key=lambda problem: problem.fatal_at or _NEVER, default=None)


def start_deadline(
    state: PodState, *, schedule_timeout: float, startup_timeout: float, ungated_at: datetime | None = None
) -> StartDeadline | None:
    """Return the deadline that applies to `state`, in the API server's time; None once started, or while gated.

    Timeouts are in seconds. `ungated_at`: when the caller saw that the pod's scheduling gates were removed, for which
    Kubernetes keeps no timestamp.
    """
    if state.verdict is Verdict.PENDING:
        since = max(filter(None, (state.created_at, ungated_at)), default=None)
        if state.gated or since is None:
            return None
        return StartDeadline(Deadline.SCHEDULE, since + timedelta(seconds=schedule_timeout))
    if state.verdict is Verdict.STARTING:
        since = state.scheduled_at or state.created_at
        return StartDeadline(Deadline.START, since + timedelta(seconds=startup_timeout)) if since is not None else None
    return None


def is_transient(message: str) -> bool:
    """Whether a failed image pull is likely to succeed when it is tried again."""
    return bool(_TRANSIENT.search(message))


def _no_such_container(pod: Pod, state: PodState) -> StartProblem | None:
    base = state.base
    names = [container.name for container in state.containers if container.kind is ContainerKind.MAIN]
    if base in names or not pod.spec.containers:
        return None
    message = f"the pod has no container {base!r}; it has {', '.join(map(repr, names))}"
    return StartProblem(base, "NoSuchContainer", message, fatal_at=state.created_at)


def _problem_of(container: Container, state: PodState) -> StartProblem | None:
    if not container.waiting or container.ended:
        return None
    reason = container.reason
    if reason in IMAGE_REASONS:
        grace = _image_grace(container)
    elif reason in GRACE:
        grace = None if _TRANSIENT.search(container.message) else GRACE[reason]
    else:
        return None
    since = _could_start_since(container, state)
    fatal_at = since + grace if since is not None and grace is not None else None
    return StartProblem(container.name, reason, container.message, container.image, fatal_at)


def _image_grace(container: Container) -> timedelta | None:
    """Return None while another try may succeed. The image's own name is ignored: it may contain "denied"."""
    message = re.sub(r'"[^"]*"', '""', container.message)
    if container.image:
        message = message.replace(container.image, "")
    if _TRANSIENT.search(message):
        return None
    if _PERMANENT.search(message):
        return IMAGE_GRACE
    if _UNKNOWN_HOST.search(message):
        return HOST_GRACE
    return None


def _could_start_since(container: Container, state: PodState) -> datetime | None:
    """Return when the kubelet could first start this container: it had the pod, and the containers before were done."""
    since = state.scheduled_at or state.created_at
    for earlier in state.containers:
        if earlier.name == container.name or earlier.kind is ContainerKind.MAIN:
            break
        done = earlier.started_at if earlier.kind is ContainerKind.SIDECAR else earlier.finished_at
        since = max(filter(None, (since, done)), default=None)
    return since
