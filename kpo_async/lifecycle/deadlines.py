"""When to stop waiting for a pod, and why. Pure: a task's terms and a view in, an absolute moment out.

Moments come from Kubernetes' own timestamps, so a triggerer that was restarted or late goes on where it was; a clock
that differs from the cluster's does not matter.
While the API server cannot be seen, nothing about the pod is overdue: only the task's own deadline runs then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from kpo_async.kube.watch.informer import Presence, View
from kpo_async.pod.start import Deadline, StartProblem, start_deadline, start_problem
from kpo_async.pod.status import PodState
from kpo_async.pod_task import OutcomeStatus, PodTask

UNSEEN_PATIENCE = timedelta(seconds=60)
"""How long a triggerer tries to get a first sight of the pod before it says why it cannot."""


@dataclass(frozen=True)
class Limit:
    """Until when to wait, and what it means when nothing has happened by then."""

    at: datetime
    status: OutcomeStatus
    problem: StartProblem | None = None
    """What keeps the pod from starting for good."""
    missed: Deadline | None = None
    """Which of the start's two clocks ran out."""


def limit(
    task: PodTask,
    view: View,
    state: PodState,
    *,
    since: datetime,
    ungated_at: datetime | None = None,
    ahead: timedelta = timedelta(0),
) -> Limit | None:
    """The first moment, on our clock, at which waiting ends for `view`; None when only the pod can end it.

    `since` is when the caller began to look, `ungated_at` when it saw the pod's last scheduling gate go, `ahead` how
    far the cluster's clock is ahead of ours.
    """
    found = [] if task.deadline is None else [Limit(_moment(task.deadline), OutcomeStatus.TIMED_OUT)]
    if view.presence is Presence.UNKNOWN:
        found.append(Limit(since + UNSEEN_PATIENCE, OutcomeStatus.ERROR))
    elif view.problem is None:
        gone = None if ungated_at is None else ungated_at + ahead
        found.extend(replace(item, at=item.at - ahead) for item in _pod_limits(task, view, state, gone))
    return min(found, key=lambda item: item.at, default=None)


def _pod_limits(task: PodTask, view: View, state: PodState, ungated_at: datetime | None) -> list[Limit]:
    found = []
    problem = start_problem(view.pod, state) if view.pod is not None else None
    if problem is not None and problem.fatal_at is not None:
        found.append(Limit(problem.fatal_at, OutcomeStatus.NOT_STARTED, problem))
    overdue = start_deadline(
        state,
        schedule_timeout=task.schedule_timeout,
        startup_timeout=task.startup_timeout,
        ungated_at=ungated_at,
    )
    if overdue is not None:
        found.append(Limit(overdue.at, OutcomeStatus.NOT_STARTED, missed=overdue.kind))
    if state.lost_at is not None:
        found.append(Limit(state.lost_at, OutcomeStatus.LOST))
    return found


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, timezone.utc)
