"""Decide what becomes of a pod, from its state and that of the try that owns it. Pure.

Only a try that is over, without doubt, has its pod deleted. A try between two of Airflow's states is not over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kpo_async.compat import StrEnum
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.status import PodState, Verdict
from kpo_async.pod_task import OnFinishAction, OnKillAction

ADOPTION_TIMEOUT = timedelta(seconds=60)
"""How long a try that runs on a worker may take to adopt the pod that an earlier try left."""

RUNNING = "running"
DEFERRED = "deferred"


class TryStatus(StrEnum):
    """What Airflow's database says about the try that owns a pod."""

    ALIVE = "alive"
    """It is the task instance's current try, and has not ended."""
    ENDED = "ended"
    """The task instance has ended, with this try or a later one."""
    RETRIED = "retried"
    """A later try followed by itself: its worker was lost, or it failed. It may adopt the pod."""
    CLEARED = "cleared"
    """A user cleared the task, so that a later try begins anew."""
    GONE = "gone"
    """The task instance was deleted, with its DAG run for example."""


@dataclass(frozen=True)
class Try:
    """A try of a task instance. `state` is Airflow's state of the task instance now, None also while it is cleared."""

    status: TryStatus
    state: str | None = None
    started_at: datetime | None = None
    """When the current try of the task instance began to run on a worker."""

    def __str__(self) -> str:
        """Return words for people."""
        return str(self.status) if self.status is TryStatus.GONE else f"{self.status} ({self.state or 'no state'})"


class Action(StrEnum):
    """What to do with a pod."""

    LEAVE = "leave"
    DELETE = "delete"
    MARK_DONE = "keep"
    """Keep it, marked as done: it leaves the watch."""


@dataclass(frozen=True)
class Decision:
    """An action, and the reason for it in words that follow "because"."""

    action: Action
    reason: str


def decide(record: TaskRecord | None, pod: PodState, owner: Try, now: datetime) -> Decision:
    """Return what becomes of a pod. `record` is what it says about its task, None if it cannot be read."""
    if record is None:
        return Decision(Action.LEAVE, "the pod does not say which task it belongs to")
    if owner.status is TryStatus.ALIVE:
        return Decision(Action.LEAVE, f"its try is alive ({owner.state or 'no state'})")
    if pod.terminating:
        return Decision(Action.LEAVE, "it is being deleted")
    if pod.verdict.ended:
        return _finish(record, pod, owner)
    if owner.status is TryStatus.RETRIED and _may_adopt(owner, now):
        return Decision(Action.LEAVE, "the next try may adopt it")
    reason = f"its try is over: {owner}"
    if record.on_kill_action == OnKillAction.KEEP_POD:
        return Decision(Action.MARK_DONE, f"{reason}; on_kill_action is to keep it")
    return Decision(Action.DELETE, reason)


def _may_adopt(owner: Try, now: datetime) -> bool:
    """Whether a later try may still adopt the pod. One that defers has a pod of its own by then."""
    if owner.state == DEFERRED:
        return False
    return owner.state != RUNNING or owner.started_at is None or now - owner.started_at < ADOPTION_TIMEOUT


def _finish(record: TaskRecord, pod: PodState, owner: Try) -> Decision:
    """Apply `on_finish_action` to a pod whose base container has ended."""
    reason = f"it has ended and its try is over: {owner}"
    succeeded = pod.verdict is Verdict.SUCCEEDED
    deleted = {
        OnFinishAction.DELETE_POD: True,
        OnFinishAction.DELETE_SUCCEEDED_POD: succeeded or pod.active,
        OnFinishAction.DELETE_ACTIVE_POD: pod.active,
        OnFinishAction.KEEP_POD: False,
    }[record.on_finish_action]
    return Decision(Action.DELETE if deleted else Action.MARK_DONE, f"{reason}; {record.on_finish_action}")
