"""The story of one pod: `ensure_pod` -> `wait` -> `collect` -> `finish`, and `kill` from outside.

The only telling of it: workers run these with `asyncio.run`, triggers await them. Nothing here knows Airflow or keeps a
connection: a client comes in, an `Outcome` goes out. Every await may be the last one (the worker dies, the triggerer
dies, the user kills the task), so each step can be repeated by somebody else and finds what the one before left:
a pod has the same name for the same try, is known by uid from then on, and is deleted only under that uid.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from typing import Any

import yaml

from kpo_async.api_types import pod_from_dict
from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.compat import timeout, timeout_at
from kpo_async.exceptions import ApiError, ConflictError, NotFoundError, XComError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.server_clock import ServerClock
from kpo_async.kube.watch.informer import Subscription
from kpo_async.lifecycle import deadlines, xcom
from kpo_async.lifecycle.ownership import Owner, abandon, delete, ensure_pod, existing, is_active, last_pod
from kpo_async.lifecycle.pod_status_log import PodStatusLogger
from kpo_async.lifecycle.task_log import followed, streaming_logs
from kpo_async.lifecycle.wait_result import WaitResult, describe_failure
from kpo_async.lifecycle.xcom import XComResult
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LineFormat
from kpo_async.pod.containers import TERMINAL_PHASES
from kpo_async.pod.names import DONE_LABEL, TRUE
from kpo_async.pod.redact import redact
from kpo_async.pod.status import PodState, Verdict, assess
from kpo_async.pod.xcom_sidecar import RESULT_PATH, XComTransport
from kpo_async.pod_task import OnFinishAction, OnKillAction, Outcome, OutcomeStatus, PodTask

__all__ = [
    "Owner",
    "abandon",
    "collect",
    "emit_remaining_logs",
    "ending",
    "ensure_pod",
    "finish",
    "kill",
    "last_pod",
    "wait",
]

log = logging.getLogger(__name__)

LOG_DRAIN = 60.0
"""Seconds an ended pod's logs may take to arrive before the worker is left to show the rest."""
REST_DRAIN = 600.0
"""Seconds for that rest, and for all of it where no worker follows."""
SETTLING = 5.0
"""Seconds an ended pod's phase may take to say so."""


async def wait(client: Client, task: PodTask, callbacks: Callbacks, *, formatter: LineFormat | None = None) -> Outcome:
    """See the pod through to the end of its base container, showing its logs meanwhile, and say how it went.

    Asks nothing of the API server but the shared watch and the log streams. A pod that ran out of time is stopped.
    """
    cursors: dict[str, Cursor] = {}
    result = None
    async with followed(client, task) as feed, streaming_logs(client, task, callbacks, formatter, cursors) as showing:
        end = await _until_end(client.clock, task, feed, PodStatusLogger(client, task, callbacks))
        if _may_have_result(task, end.status) and task.xcom == XComTransport.SIDECAR:
            result = await _result(client, task, feed)
        complete = await _drained(task, showing, end)
    if end.status is OutcomeStatus.TIMED_OUT:
        await delete(client, task.namespace, task.name, task.uid, task.grace_period)
    category, message = await describe_failure(client, task, end)
    return Outcome(
        status=end.status,
        exit_code=end.state.exit_code,
        category=category,
        message=message,
        result=result.text if result is not None else None,
        result_known=result is not None,
        cursors=cursors,
        logs_complete=complete,
    )


_ENDINGS = {
    Verdict.SUCCEEDED: OutcomeStatus.SUCCEEDED,
    Verdict.FAILED: OutcomeStatus.FAILED,
    Verdict.LOST: OutcomeStatus.LOST,
}


async def _until_end(clock: ServerClock, task: PodTask, feed: Subscription, narrate: PodStatusLogger) -> WaitResult:
    """Wait until the base container has ended or a limit has passed."""
    since = datetime.now(timezone.utc)
    view, state = feed.view, assess(None, task.base_container)
    ungated_at: datetime | None = None
    while not state.verdict.ended:
        bound = deadlines.limit(task, view, state, since=since, ungated_at=ungated_at, ahead=clock.ahead)
        scope = timeout_at(None if bound is None else _loop_time(bound.at))
        try:
            async with scope:
                view = await feed.next()
        except asyncio.TimeoutError:
            if bound is None or not scope.expired():
                raise
            return WaitResult(bound.status, view, state, bound)
        before, state = state, assess(view.pod, task.base_container, gone=view.presence.final)
        if before.gated and not state.gated:
            ungated_at = datetime.now(timezone.utc)
        await narrate(state, view)
    return WaitResult(_ENDINGS[state.verdict], view, state)


def _loop_time(moment: datetime) -> float:
    return asyncio.get_running_loop().time() + moment.timestamp() - time.time()


async def _drained(task: PodTask, showing: asyncio.Task[bool] | None, end: WaitResult) -> bool:
    """Give the logs of an ended pod time to arrive. Whether all of them were shown."""
    if showing is None:
        return False
    allowed = REST_DRAIN if task.end_from_trigger else LOG_DRAIN
    await asyncio.wait([showing], timeout=allowed if end.limit is None else 0)
    if not showing.done():
        if end.limit is None and task.end_from_trigger:
            log.warning("The log ends here: the rest did not arrive within %.0f s of the end of the pod", allowed)
        return end.limit is not None
    if error := showing.exception():
        log.warning("The logs of the pod could not be shown to their end: %s", error)
        return True
    return showing.result()


async def emit_remaining_logs(
    client: Client, task: PodTask, outcome: Outcome, callbacks: Callbacks, *, formatter: LineFormat | None = None
) -> None:
    """Show what of an ended pod's logs the trigger has not shown."""
    cursors = dict(outcome.cursors)
    async with streaming_logs(client, task, callbacks, formatter, cursors) as showing:
        if showing is not None:
            _, late = await asyncio.wait([showing], timeout=REST_DRAIN)
            if late:
                log.warning("The log ends here: the rest did not arrive within %.0f s", REST_DRAIN)


async def _result(client: Client, task: PodTask, feed: Subscription) -> XComResult | None:
    """The result as the pod left it; None when it cannot be read, which is for `collect` to say."""
    with suppress(XComError, ApiError):
        result = await xcom.read(client, feed, base=task.base_container, transport=task.xcom or XComTransport.SIDECAR)
        if result.kind is xcom.Kind.ABSENT:
            log.warning("Pod %s/%s left no %s: the task has no result", task.namespace, task.name, RESULT_PATH)
        return result
    return None


async def collect(client: Client, task: PodTask, outcome: Outcome) -> Any:
    """The task's result, None when it left none or none is wanted.

    Raises `XComError` when it cannot be read; not for a pod that failed, which may have left one or not.
    """
    if not _may_have_result(task, outcome.status):
        return None
    if outcome.result_known:
        return None if outcome.result is None else json.loads(outcome.result)
    try:
        async with followed(client, task) as feed:
            transport = task.xcom or XComTransport.SIDECAR
            return (await xcom.read(client, feed, base=task.base_container, transport=transport)).value
    except (XComError, ApiError):
        if outcome.succeeded:
            raise
        return None


def _may_have_result(task: PodTask, status: OutcomeStatus) -> bool:
    return task.xcom is not None and status in (OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED)


@asynccontextmanager
async def ending(client: Client, task: PodTask, outcome: Outcome, callbacks: Callbacks) -> AsyncIterator[None]:
    """Around the collection of the result: users' callbacks at their moments, and `finish` whatever happens."""
    hooks = (CallbackEvent.POD_COMPLETION, CallbackEvent.POD_TEARDOWN, CallbackEvent.POD_CLEANUP)
    show_pod = task.spec_on_failure and not outcome.succeeded and not task.skips(outcome)
    pod = await _ended_pod(client, task, outcome) if show_pod or any(callbacks.wants(hook) for hook in hooks) else {}
    try:
        if show_pod:
            # A group is shown folded by Airflow's log view.
            log.info("::group::Pod %s/%s\n%s\n::endgroup::", task.namespace, task.name, _as_yaml(redact(pod)))
        await callbacks.pod_event(CallbackEvent.POD_COMPLETION, pod)
        yield
        await callbacks.pod_event(CallbackEvent.POD_TEARDOWN, pod)
    finally:
        await finish(client, task, outcome)
        await callbacks.pod_event(CallbackEvent.POD_CLEANUP, pod)


async def _ended_pod(client: Client, task: PodTask, outcome: Outcome) -> Json:
    """The pod for people to look at. Its phase, which they go by, follows the end of its base container by a moment."""
    pod = await last_pod(client, task)
    if outcome.exit_code is None or _is_settled(assess(pod_from_dict(pod), task.base_container)):
        return pod
    with suppress(asyncio.TimeoutError):
        async with timeout(SETTLING), followed(client, task) as feed:
            while not (view := await feed.next()).presence.final:
                if _is_settled(assess(view.pod, task.base_container)):
                    break
    return await last_pod(client, task)


def _is_settled(state: PodState) -> bool:
    """Whether the pod's phase is its last, or will not be for as long as another container runs."""
    return state.phase in TERMINAL_PHASES or bool(state.verdict.ended and state.running_main_containers)


def _as_yaml(pod: Json) -> str:
    text: str = yaml.safe_dump(pod, sort_keys=False)
    return text


async def finish(client: Client, task: PodTask, outcome: Outcome) -> None:
    """Do with the pod what `on_finish_action` says; a kept pod is marked done and leaves the shared watch.

    A pod that still runs when its task has failed is stopped unless `keep_pod` was asked for. Idempotent.
    """
    if await _is_kept(client, task, outcome):
        await _mark_done(client, task)
    else:
        await delete(client, task.namespace, task.name, task.uid, task.grace_period)


async def _is_kept(client: Client, task: PodTask, outcome: Outcome) -> bool:
    if task.on_finish_action == OnFinishAction.KEEP_POD:
        return True
    if task.on_finish_action == OnFinishAction.DELETE_POD:
        return False
    if task.on_finish_action == OnFinishAction.DELETE_SUCCEEDED_POD and outcome.succeeded:
        return False
    pod = await existing(client, task.namespace, task.name)
    return pod is not None and not is_active(pod, task.base_container)


async def _mark_done(client: Client, task: PodTask) -> None:
    patch = {"metadata": {"uid": task.uid, "labels": {DONE_LABEL: TRUE, "already_checked": "True"}}}
    with suppress(NotFoundError, ConflictError):
        await client.patch("pods", task.name, patch, task.namespace)


async def kill(client: Client, task: PodTask) -> None:
    """The user killed the task: stop its pod, unless `on_kill_action` says to leave it."""
    if task.on_kill_action == OnKillAction.DELETE_POD:
        log.info("Deleting pod %s/%s: its task was killed", task.namespace, task.name)
        await delete(client, task.namespace, task.name, task.uid, task.grace_period)
    else:
        log.info("Leaving pod %s/%s as it is, for on_kill_action: its task was killed", task.namespace, task.name)
