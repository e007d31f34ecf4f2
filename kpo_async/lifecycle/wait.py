"""From the subscription to a pod to the task's `Outcome`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timezone

from kpo_async.callbacks import Callbacks
from kpo_async.compat import timeout_at
from kpo_async.exceptions import ApiError, CallbackTimeoutError, XComError
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import Subscription
from kpo_async.lease import lease
from kpo_async.lifecycle import deadlines, xcom
from kpo_async.lifecycle.companions import wait_for_companions
from kpo_async.lifecycle.disposal import stop
from kpo_async.lifecycle.ownership import pod_of, subscribe
from kpo_async.lifecycle.pod_status_log import PodStatusLogger
from kpo_async.lifecycle.pod_times import record_times
from kpo_async.lifecycle.task_log import streaming_logs, wait_for_logs
from kpo_async.lifecycle.wait_result import WaitResult, describe
from kpo_async.lifecycle.xcom import XComResult
from kpo_async.logs.channel import wait_for_room
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LineFormat
from kpo_async.metrics import PODS_ENDED, count
from kpo_async.pod.causes import Category
from kpo_async.pod.status import Verdict, assess
from kpo_async.pod.xcom_sidecar import RESULT_PATH, XComTransport
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask

log = logging.getLogger(__name__)

_STATUS = {
    Verdict.SUCCEEDED: OutcomeStatus.SUCCEEDED,
    Verdict.FAILED: OutcomeStatus.FAILED,
    Verdict.LOST: OutcomeStatus.LOST,
}


async def wait(client: Client, task: PodTask, callbacks: Callbacks, *, formatter: LineFormat | None = None) -> Outcome:
    """Stream the pod's logs until its base container has ended or a limit has passed, and return how it went.

    The companions of a base container that has ended well have some time to end, too. The API server sees nothing but
    the shared watch and the log streams, unless companions are stopped or scheduling gates were removed. A pod that ran
    out of time is deleted.
    """
    pod = pod_of(client, task)
    cursors: dict[str, Cursor] = {}
    result = None
    logs = streaming_logs(pod, task, callbacks, formatter, cursors, repeats=task.may_have_been_followed())
    async with subscribe(pod, task) as feed, logs as streaming:
        end = await _wait_for_end(pod, task, feed, PodStatusLogger(pod, task, callbacks))
        record_times(pod, end.state)
        if end.status is OutcomeStatus.SUCCEEDED and task.companions:
            end = await wait_for_companions(client.clock, pod, task, feed, end)
        if task.may_have_result(end.status) and task.xcom == XComTransport.SIDECAR:
            result = await _read_result(pod, task, feed)
        runs_on = end.limit is not None and not end.state.verdict.ended
        logs_complete = await wait_for_logs(task, streaming, at_limit=runs_on)
    # A worker that shows the log still needs the pod, and deletes it.
    if end.status is OutcomeStatus.TIMED_OUT and runs_on and not task.worker_shows_log:
        await stop(pod, task)
    await wait_for_room()
    diagnosis = await describe(client, task, end)
    count(PODS_ENDED, client.config.host, task.namespace, end.status, diagnosis.category)
    return Outcome(
        status=end.status,
        exit_code=end.state.exit_code,
        category=diagnosis.category,
        message=diagnosis.message,
        diagnosis=None if end.status is OutcomeStatus.SUCCEEDED else diagnosis,
        result=result.text if result is not None else None,
        result_known=result is not None,
        cursors=cursors,
        logs_complete=logs_complete,
        disrupted=_is_disruption(end, diagnosis.category),
        node=end.state.node,
    )


def _is_disruption(end: WaitResult, category: str) -> bool:
    """Whether the cluster took the pod away, or its node started none of its containers in time."""
    if end.status is OutcomeStatus.NOT_STARTED:
        return category == Category.START_TIMEOUT and not any(c.started for c in end.state.containers)
    return end.status is OutcomeStatus.LOST


async def _wait_for_end(pod: PodHandle, task: PodTask, feed: Subscription, status_log: PodStatusLogger) -> WaitResult:
    """Wait until the base container has ended or a limit has passed."""
    clock = pod.client.clock
    since = datetime.now(timezone.utc)
    view, state = feed.view, assess(None, task.base_container)
    ungated_at: datetime | None = None
    while not state.verdict.ended:
        limit = deadlines.limit(task, view, state, since=since, ungated_at=ungated_at, ahead=clock.ahead)
        scope = timeout_at(None if limit is None else deadlines.loop_time(limit.at))
        try:
            async with scope:
                view = await feed.next()
        except asyncio.TimeoutError:
            if limit is None or not scope.expired():
                raise
            await lease().held()
            return WaitResult(limit.status, view, state, limit)
        await lease().held()
        before, state = state, assess(view.pod, task.base_container, gone=view.presence.final)
        ungated_at = ungated_at or deadlines.ungated_at(view.pod)
        if before.gated and not state.gated:
            ungated_at = datetime.now(timezone.utc)
            with suppress(ApiError):  # without the right to patch, a triggerer that continues counts from the creation
                await pod.patch(deadlines.ungated_patch(ungated_at))
        try:
            await status_log(state, view)
        except CallbackTimeoutError as error:
            log.warning("%s", error)
            over = deadlines.Limit(datetime.now(timezone.utc), OutcomeStatus.TIMED_OUT)
            return WaitResult(over.status, view, state, over)
    if late := deadlines.ended_late(task, state, now=datetime.now(timezone.utc), ahead=clock.ahead):
        return WaitResult(late.status, view, state, late)
    return WaitResult(_STATUS[state.verdict], view, state)


async def _read_result(pod: PodHandle, task: PodTask, feed: Subscription) -> XComResult | None:
    """Return the result as the pod left it. None when it cannot be read: `collect` tries again and raises why not."""
    with suppress(XComError, ApiError):
        result = await xcom.read(pod, feed, base=task.base_container, transport=XComTransport.SIDECAR)
        if result.kind is xcom.Kind.ABSENT:
            log.warning("Pod %s wrote no %s: the task has no result", pod, RESULT_PATH)
        return result
    return None
