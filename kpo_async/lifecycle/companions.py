"""Wait for the companions of a base container that has ended well, and stop those that do not end.

The verdict comes from the base container, but its companions may still have work that belongs to the task: an uploader
sends what the base container wrote.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta, timezone

from kpo_async.compat import timeout_at
from kpo_async.exceptions import ApiError, ConflictError, NotFoundError
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.server_clock import ServerClock
from kpo_async.kube.watch import Subscription, View
from kpo_async.lease import lease
from kpo_async.lifecycle.deadlines import Limit, loop_time, moment
from kpo_async.lifecycle.wait_result import WaitResult
from kpo_async.pod.companions import STOP, first_failed, running
from kpo_async.pod.status import assess
from kpo_async.pod_task import OutcomeStatus, PodTask

log = logging.getLogger(__name__)


async def wait_for_companions(
    clock: ServerClock, pod: PodHandle, task: PodTask, feed: Subscription, end: WaitResult
) -> WaitResult:
    """Return `end`, or how the wait ended instead: with a companion that failed, or at the task's deadline.

    `end` is that of a base container that has ended well. Companions have `task.companion_grace` seconds from then on.
    """
    view, state = end.view, end.state
    since = state.finished_at or datetime.now(timezone.utc)
    announced = False
    while (names := running(state, task.companions)) and not view.presence.final:
        limit = _limit(clock, task, view, since)
        if limit is not None and loop_time(limit.at) <= asyncio.get_running_loop().time():
            return await _at_limit(pod, task, WaitResult(end.status, view, state), limit, names)
        if not announced:
            announced = True
            grace = "" if task.companion_grace is None else f", for {task.companion_grace:.0f} s at most"
            log.info("Pod %s: waiting for the end of container %s%s", pod, _quoted(names), grace)
        with suppress(asyncio.TimeoutError):
            async with timeout_at(None if limit is None else loop_time(limit.at)):
                view = await feed.next()
        await lease().held()
        state = assess(view.pod, task.base_container, gone=view.presence.final)
    if names:
        log.warning("Pod %s was gone before container %s had ended", pod, _quoted(names))
    return _judged(task, WaitResult(end.status, view, state))


def _limit(clock: ServerClock, task: PodTask, view: View, since: datetime) -> Limit | None:
    """Return when waiting ends. While the API server cannot be reached, a companion cannot be overdue."""
    found = [] if task.deadline is None else [Limit(moment(task.deadline), OutcomeStatus.TIMED_OUT)]
    if task.companion_grace is not None and view.problem is None:
        grace = timedelta(seconds=task.companion_grace)
        found.append(Limit(since + grace - clock.ahead, OutcomeStatus.SUCCEEDED))
    return min(found, key=lambda limit: limit.at, default=None)


async def _at_limit(pod: PodHandle, task: PodTask, end: WaitResult, limit: Limit, names: list[str]) -> WaitResult:
    if limit.status is OutcomeStatus.TIMED_OUT:
        return WaitResult(OutcomeStatus.TIMED_OUT, end.view, end.state, limit)
    log.warning(
        "Pod %s: stopping container %s, which still ran %.0f s after container %r had ended. Raise "
        "companion_grace_seconds if it needs longer; if it is to run as long as the others, declare it as a native "
        "sidecar: an init container with restartPolicy Always",
        pod,
        _quoted(names),
        task.companion_grace or 0,
        task.base_container,
    )
    try:
        await pod.patch(STOP)
    except (NotFoundError, ConflictError):
        pass
    except ApiError as error:
        log.warning("Pod %s runs on until it is deleted: %s", pod, error)
    return _judged(task, end)


def _judged(task: PodTask, end: WaitResult) -> WaitResult:
    """Return `end`, or the failure of a companion that is not to be ignored."""
    failed = first_failed(end.view.pod, task)
    return end if failed is None else WaitResult(OutcomeStatus.FAILED, end.view, end.state, companion=failed)


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))
