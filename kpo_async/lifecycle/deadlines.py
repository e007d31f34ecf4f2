"""When to stop waiting for a pod, and why. Pure: a task and a view of its pod in, an absolute moment out.

Moments come from Kubernetes' own timestamps, so a restarted or late triggerer keeps the same limits, and it does not
matter that its clock differs from the cluster's. While the API server cannot be reached, the pod cannot be overdue:
only the task's own deadline runs then.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from kpo_async.api_types import Pod
from kpo_async.json_types import Json
from kpo_async.kube.watch import Presence, View
from kpo_async.pod.names import UNGATED_ANNOTATION
from kpo_async.pod.start import Deadline, StartProblem, start_deadline, start_problem
from kpo_async.pod.status import PodState
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import OutcomeStatus, PodTask

UNSEEN_LIMIT = timedelta(seconds=60)
"""How long to try to see the pod for the first time before the wait ends with the reason."""


FIRST_LOOK = timedelta(seconds=10)
"""How long a task whose time is over may take to see its pod for the first time."""


@dataclass(frozen=True)
class Limit:
    """The moment at which waiting ends, and the outcome's status when it has come."""

    at: datetime
    status: OutcomeStatus
    problem: StartProblem | None = None
    """What keeps the pod from starting for good."""
    missed: Deadline | None = None
    """Which of the two start time-outs has passed."""


def limit(
    task: PodTask,
    view: View,
    state: PodState,
    *,
    since: datetime,
    ungated_at: datetime | None = None,
    ahead: timedelta = timedelta(0),
) -> Limit | None:
    """Return the moment, on this host's clock, at which waiting ends for `view`; None when only the pod can end it.

    `since` is when the caller began to wait, `ungated_at` when it saw the pod's last scheduling gate removed, both on
    this host's clock; `ahead` is how far the cluster's clock is ahead of it.
    """
    found = [] if task.deadline is None else [Limit(moment(task.deadline), OutcomeStatus.TIMED_OUT)]
    if view.presence is Presence.UNKNOWN:
        # The pod may have ended in time, while no triggerer was there to see it.
        found = [replace(item, at=max(item.at, since + FIRST_LOOK)) for item in found]
        found.append(Limit(since + UNSEEN_LIMIT, OutcomeStatus.ERROR))
    elif view.problem is None:
        ungated = None if ungated_at is None else ungated_at + ahead
        found.extend(replace(item, at=item.at - ahead) for item in _pod_limits(task, view, state, ungated))
    return min(found, key=lambda item: item.at, default=None)


def ended_late(task: PodTask, state: PodState, *, now: datetime, ahead: timedelta = timedelta(0)) -> Limit | None:
    """Return the task's own deadline if the base container ended only after it, by Kubernetes' own timestamp.

    No triggerer may have been there to stop it. `now` is on this host's clock, which the cluster's is `ahead` of.
    """
    if task.deadline is None or state.finished_at is None:
        return None
    deadline = moment(task.deadline)
    return Limit(deadline, OutcomeStatus.TIMED_OUT) if deadline < min(now, state.finished_at - ahead) else None


def ungated_at(pod: Pod | None) -> datetime | None:
    """Return when a triggerer saw the pod's last scheduling gate removed, as it wrote on the pod."""
    return None if pod is None else parse_time((pod.metadata.annotations or {}).get(UNGATED_ANNOTATION))


def ungated_patch(at: datetime) -> Json:
    """Return the patch that writes it: Kubernetes keeps no timestamp, and another triggerer may continue."""
    return {"metadata": {"annotations": {UNGATED_ANNOTATION: at.strftime("%Y-%m-%dT%H:%M:%SZ")}}}


def _pod_limits(task: PodTask, view: View, state: PodState, ungated_at: datetime | None) -> list[Limit]:
    """Return the limits that the pod itself sets, on the cluster's clock, as `ungated_at` is."""
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


def moment(epoch: float) -> datetime:
    """Return the moment that is so many seconds after the epoch."""
    return datetime.fromtimestamp(epoch, timezone.utc)


def loop_time(at: datetime) -> float:
    """Return a moment of this host's clock by the running loop's clock."""
    return asyncio.get_running_loop().time() + at.timestamp() - time.time()
