"""Diagnose a pod: a stable category for programs, a one-line summary for people.

The summary has the facts (exit code, reason, signal, node, duration), the hint says what to do. Pure; events add detail
and are never needed. Only the status and the events are read, so values of environment variables never appear.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from kpo_async.api_types import Event, Pod
from kpo_async.exceptions import clip
from kpo_async.pod import scheduling
from kpo_async.pod.causes import EXIT_CODE_HINTS, HINTS, SIGNAL_HINTS, Category
from kpo_async.pod.containers import Container, ContainerKind
from kpo_async.pod.scheduling import Obstacle
from kpo_async.pod.start import IMAGE_REASONS, Deadline, StartProblem, is_transient
from kpo_async.pod.status import PodState, Verdict

TEXT_LIMIT = 1024
_DETAIL_LIMIT = 480


@dataclass(frozen=True)
class Diagnosis:
    """One cause. Users read its `text()`."""

    category: Category
    summary: str
    """What happened to which pod or container, with the numbers; one line."""
    detail: str = ""
    """Kubernetes' or the program's own message."""
    hint: str = ""
    container: str = ""
    """The container that is the cause; empty if it is the pod or its node. The next three fields are about it."""
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    """Kubernetes' word for the cause, such as `OOMKilled` or `Evicted`."""

    @property
    def signal_name(self) -> str:
        """Return such as `SIGKILL`; empty without a signal."""
        return "" if self.signal is None else _signal_name(self.signal)

    def text(self) -> str:
        """Return everything on one line of at most 1 KiB."""
        detail = clip(" ".join(self.detail.split()), _DETAIL_LIMIT)
        colon = ": " if detail else ""
        hint = f" ({self.hint})" if self.hint else ""
        return clip(f"{' '.join(self.summary.split())}{colon}{detail}{hint}", TEXT_LIMIT)


def diagnose(
    pod: Pod | None,
    state: PodState,
    events: Sequence[Event] = (),
    *,
    problem: StartProblem | None = None,
    missed: Deadline | None = None,
) -> Diagnosis:
    """Return why a pod ended as it did, or what holds up one that has not ended.

    `problem`: what keeps it from starting, if the caller knows; `missed`: the start's deadline that has passed.
    """
    found = _diagnose(pod, state, events, problem, missed)
    if found.container or state.exit_code is None:
        return found if found.reason else replace(found, reason=state.reason)
    return replace(
        found, container=state.base, exit_code=state.exit_code, signal=state.signal, reason=found.reason or state.reason
    )


def diagnose_companion(pod: Pod | None, companion: PodState) -> Diagnosis:
    """Return why a companion failed, whose base container succeeded. `companion` is the pod as seen from it."""
    found = diagnose(pod, companion)
    return replace(found, category=Category.COMPANION_FAILED, hint=HINTS[Category.COMPANION_FAILED])


def _diagnose(
    pod: Pod | None, state: PodState, events: Sequence[Event], problem: StartProblem | None, missed: Deadline | None
) -> Diagnosis:
    if state.verdict is Verdict.SUCCEEDED:
        return Diagnosis(Category.SUCCEEDED, _describe_run(pod, state, "succeeded"))
    if state.verdict is Verdict.LOST:
        return _lost(pod, state, events)
    if state.verdict is Verdict.FAILED:
        return _failed(pod, state)
    if state.verdict is Verdict.RUNNING:
        ending = ", being deleted" if state.terminating else ""
        return Diagnosis(Category.RUNNING, f"{_subject(pod)} is running on {_node(state)}{ending}")
    return _not_started(pod, state, events, problem, missed)


def _not_started(
    pod: Pod | None, state: PodState, events: Sequence[Event], problem: StartProblem | None, missed: Deadline | None
) -> Diagnosis:
    what = _subject(pod)
    if problem is None and state.waiting is not None and state.verdict is not Verdict.PENDING:
        waiting = state.waiting
        problem = StartProblem(waiting.name, waiting.reason, waiting.message, waiting.image)
    if problem is not None:
        return replace(_problem(what, problem, state), container=problem.container, reason=problem.reason)
    if state.verdict is Verdict.PENDING:
        return _unscheduled(what, pod, state, missed)
    late = "did not start in time" if missed else "has not started yet"
    if (mount := _last_event(events, "FailedMount", "FailedAttachVolume", "FailedMapVolume")) is not None:
        return _with_hint(
            Category.VOLUME, f"{what} {late} on {_node(state)}, its volumes are not ready", mount.message or ""
        )
    unfinished = next(
        (c for c in state.containers if not c.started or (c.kind is ContainerKind.INIT and not c.ended)), None
    )
    at = f", waiting for container {unfinished.name!r} ({_stage(unfinished)})" if unfinished is not None else ""
    warning = _last_event(events)
    return _with_hint(
        Category.START_TIMEOUT, f"{what} {late} on {_node(state)}{at}", (warning.message or "") if warning else ""
    )


def is_quota_used_up(message: str) -> bool:
    """Whether a create was refused for a quota that has room again when other pods have ended."""
    return "exceeded quota" in message


def diagnose_refusal(message: str, *, name: str, namespace: str) -> Diagnosis | None:
    """Return the cause of a 403 on creating a pod; None if it is an ordinary missing right."""
    if is_quota_used_up(message) or "must specify" in message:
        return _with_hint(
            Category.QUOTA, f"pod {namespace}/{name} was refused by a quota of namespace {namespace!r}", message
        )
    if "violates PodSecurity" in message:
        hint = "set security_context and container_security_context to what the namespace's Pod Security level asks"
        what = f"pod {namespace}/{name} was refused by Pod Security"
        return Diagnosis(Category.FORBIDDEN, what, message, hint)
    return None


def _failed(pod: Pod | None, state: PodState) -> Diagnosis:
    what = _subject(pod)
    if state.exit_code is None:
        return _failed_before_base(what, state)
    if state.reason == "DeadlineExceeded":
        return _with_hint(
            Category.DEADLINE_EXCEEDED, _describe_run(pod, state, "was stopped by its deadline"), state.message
        )
    if state.reason == "OOMKilled":
        return _with_hint(Category.OOM_KILLED, _describe_run(pod, state, "ran out of memory"), state.message)
    if state.reason in ("StartError", "ContainerCannotRun") or (state.exit_code in (126, 127) and not state.started_at):
        return _with_hint(
            Category.COMMAND, _describe_run(pod, state, "could not be run"), _runtime_cause(state.message)
        )
    if state.signal is not None:
        hint = SIGNAL_HINTS.get(state.signal, HINTS[Category.SIGNAL])
        return Diagnosis(Category.SIGNAL, _describe_run(pod, state, "was ended by a signal"), state.message, hint)
    hint = EXIT_CODE_HINTS.get(state.exit_code, HINTS[Category.EXIT_CODE])
    return Diagnosis(Category.EXIT_CODE, _describe_run(pod, state, "failed"), state.message, hint)


def _failed_before_base(what: str, state: PodState) -> Diagnosis:
    if state.reason == "DeadlineExceeded":
        return _with_hint(
            Category.DEADLINE_EXCEEDED,
            f"{what} was stopped by its deadline before {state.base!r} had run",
            state.message,
        )
    failed = next((c for c in state.containers if c.kind is ContainerKind.INIT and c.exit_code), None)
    if failed is not None:
        how = _describe_end(failed.exit_code, failed.reason, None, failed.started_at, failed.finished_at)
        hint = "raise the memory limit of that container, or use less memory" if failed.reason == "OOMKilled" else ""
        return Diagnosis(
            Category.INIT_FAILED,
            f"{what}: init container {failed.name!r} failed{how}",
            failed.message,
            hint or HINTS[Category.INIT_FAILED],
            failed.name,
            failed.exit_code,
            reason=failed.reason,
        )
    if state.base not in {container.name for container in state.containers}:
        names = ", ".join(repr(container.name) for container in state.containers) or "none"
        hint = "set base_container_name to the container that does the work"
        return Diagnosis(Category.CONFIG, f"{what} has no container {state.base!r}, but: {names}", state.message, hint)
    reason = f" ({state.reason})" if state.reason else ""
    return _with_hint(Category.UNKNOWN, f"{what} failed before container {state.base!r} had run{reason}", state.message)


_LOST_BY: tuple[tuple[str, Category], ...] = (
    (r"Preempt", Category.PREEMPTED),
    (r"Evict|TaintManager", Category.EVICTED),
    (r"Shutdown|^Terminated$|TerminationByKubelet", Category.NODE_SHUTDOWN),
    (r"NodeLost|PodGC|ContainerStatusUnknown", Category.NODE_LOST),
    (r"OutOf|NodeAffinity|UnexpectedAdmission", Category.REJECTED),
    (r"Deleted", Category.DELETED),
)


_LOST_BY_EVENT = {
    "Preempted": Category.PREEMPTED,
    "Evicted": Category.EVICTED,
    "TaintManagerEviction": Category.EVICTED,
    "NodeNotReady": Category.NODE_LOST,
    "NodeShutdown": Category.NODE_SHUTDOWN,
}
"""Reasons of events about a pod of which its own last state says only that it was deleted."""
_LOST_AS = {
    Category.PREEMPTED: "was preempted",
    Category.EVICTED: "was evicted",
    Category.NODE_SHUTDOWN: "was stopped with its node",
    Category.NODE_LOST: "was lost with its node",
    Category.REJECTED: "was rejected by its node",
    Category.DELETED: "was deleted",
}


def _lost(pod: Pod | None, state: PodState, events: Sequence[Event]) -> Diagnosis:
    category = next((category for words, category in _LOST_BY if re.search(words, state.reason)), Category.LOST)
    reason, message = state.reason, state.message
    if re.search("shut ?down", message, re.IGNORECASE):
        category = Category.NODE_SHUTDOWN
    if category is Category.DELETED and (event := _last_event(events, *_LOST_BY_EVENT)) is not None:
        reason, message = event.reason or "", event.message or ""
        category = _LOST_BY_EVENT[reason]
    how = _describe_end(state.exit_code, "", state.signal, state.started_at, state.finished_at)
    when = how or (" before it had run" if state.started_at is None else " while it was running")
    summary = f"{_subject(pod)} {_LOST_AS.get(category, 'was lost')} ({reason}) on {_node(state)}{when}"
    return replace(_with_hint(category, summary, message), reason=reason)


def _problem(what: str, problem: StartProblem, state: PodState) -> Diagnosis:
    image = f" of image {problem.image!r}" if problem.image else ""
    where = f"{what}: container {problem.container!r} on {_node(state)}"
    reason = problem.reason
    if reason in IMAGE_REASONS or reason in ("InvalidImageName", "ErrImageNeverPull", "SignatureValidationFailed"):
        where = f"{what}: image {problem.image!r} of container {problem.container!r} cannot be pulled"
        hint = "the registry may answer later: raise startup_timeout_seconds" if is_transient(problem.message) else ""
        return Diagnosis(
            Category.IMAGE_PULL, f"{where} ({reason})", problem.message, hint or HINTS[Category.IMAGE_PULL]
        )
    if reason == "CreateContainerConfigError":
        return _with_hint(Category.CONFIG, f"{where} cannot be configured ({reason})", problem.message)
    if reason == "CrashLoopBackOff":
        return _with_hint(Category.CRASH_LOOP, f"{where}{image} crashes again and again", problem.message)
    if reason == "NoSuchContainer":
        hint = "set base_container_name to the container that does the work"
        return Diagnosis(Category.CONFIG, what, problem.message, hint)
    return _with_hint(Category.COMMAND, f"{where}{image} cannot be started ({reason})", _runtime_cause(problem.message))


def _unscheduled(what: str, pod: Pod | None, state: PodState, missed: Deadline | None) -> Diagnosis:
    late = "was not scheduled in time" if missed else "is not scheduled yet"
    if state.gated:
        return _with_hint(Category.SCHEDULING_GATED, f"{what} {late}, it is held back by scheduling gates")
    kinds = [kind for kind in scheduling.obstacles(state.scheduling) if kind is not Obstacle.OTHER]
    hints = [scheduling.HINTS[kind] for kind in kinds[:2]]
    return Diagnosis(
        Category.UNSCHEDULABLE,
        f"{what} {late}" + (f" ({', '.join(kinds)})" if kinds else ""),
        state.scheduling,
        "; ".join([*hints, "or raise schedule_timeout_seconds"]) if hints else HINTS[Category.UNSCHEDULABLE],
        reason="Unschedulable",
    )


def _with_hint(category: Category, summary: str, detail: str = "") -> Diagnosis:
    return Diagnosis(category, summary, detail, HINTS.get(category, ""))


def _subject(pod: Pod | None) -> str:
    return f"pod {pod.metadata.namespace}/{pod.metadata.name}" if pod is not None else "the pod"


def _node(state: PodState) -> str:
    return f"node {state.node}" if state.node else "no node"


def _describe_run(pod: Pod | None, state: PodState, how: str) -> str:
    ending = _describe_end(state.exit_code, state.reason, state.signal, state.started_at, state.finished_at)
    return f"{_subject(pod)}: container {state.base!r} {how}{ending} on {_node(state)}"


def _describe_end(
    exit_code: int | None, reason: str, signal: int | None, started: datetime | None, finished: datetime | None
) -> str:
    facts = [f"exit code {exit_code}"] if exit_code is not None else []
    if signal is not None:
        facts.append(_signal_name(signal))
    if reason and reason not in ("Error", "Completed"):
        facts.append(reason)
    how = f" with {', '.join(facts)}" if facts else ""
    duration = f" after {_duration(started, finished)}" if started and finished else ""
    return how + duration


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _duration(started: datetime, finished: datetime) -> str:
    seconds = max(0, int((finished - started).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _stage(container: Container) -> str:
    if container.started:
        return "running"
    return container.reason or "not reported yet"


def _runtime_cause(message: str) -> str:
    """Return the end of a container runtime's nested message, which has the cause."""
    match = re.search(r"(exec: .*|stat .*|chdir .*|no command specified.*)$", message, re.DOTALL)
    return match[1] if match else message


def _last_event(events: Sequence[Event], *reasons: str) -> Event | None:
    """Return the newest event with one of these reasons; without reasons, the newest warning."""
    wanted: Callable[[Event], bool] = (
        (lambda event: event.reason in reasons) if reasons else (lambda event: event.type == "Warning")
    )
    return max(filter(wanted, events), key=lambda event: event.happened_at, default=None)
