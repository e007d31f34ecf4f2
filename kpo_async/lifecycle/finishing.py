"""After the wait: collect the result, call the user's callbacks, and finish the pod."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import yaml

from kpo_async.api_types import pod_from_dict
from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.compat import timeout
from kpo_async.exceptions import ApiError, CallbackTimeoutError, XComError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.lifecycle import xcom
from kpo_async.lifecycle.disposal import Finish, finish
from kpo_async.lifecycle.ownership import last_pod, pod_of, subscribe
from kpo_async.logs.records import split
from kpo_async.pod.containers import TERMINAL_PHASES
from kpo_async.pod.redact import redact
from kpo_async.pod.status import PodState, assess
from kpo_async.pod_task import Outcome, PodTask

log = logging.getLogger(__name__)

LINE = 2000
"""Characters before YAML wraps a line: a sentence stays in one."""

CALLBACKS_GRACE = 10.0
"""Seconds for the last callbacks of a task that has failed, when its execution_timeout has passed."""
PHASE_TIMEOUT = 5.0
"""Seconds to wait for a pod's last phase, which follows the end of its base container."""


async def collect(client: Client, task: PodTask, outcome: Outcome) -> Any:
    """Return the task's result as the JSON value that it is; None when the pod left none or none is wanted.

    Raises `XComError` when it cannot be read, except for a pod that failed: it need not have left one.
    """
    if task.xcom is None or not task.may_have_result(outcome.status):
        return None
    if outcome.result_known:
        return None if outcome.result is None else json.loads(outcome.result)
    pod = pod_of(client, task)
    try:
        async with subscribe(pod, task) as feed:
            return (await xcom.read(pod, feed, base=task.base_container, transport=task.xcom)).value
    except (XComError, ApiError):
        if outcome.succeeded:
            raise
        return None


@asynccontextmanager
async def finishing(
    client: Client, task: PodTask, outcome: Outcome, callbacks: Callbacks, *, finish: Finish = finish
) -> AsyncIterator[None]:
    """Run the block, which collects and stores the result, between the user's callbacks, and `finish` the pod after it.

    An error in the block or in a callback is raised after that. On cancellation nothing is done to the pod: a triggerer
    that stops leaves it to the next one, and a worker that is killed knows itself what to do.
    """
    events = (CallbackEvent.POD_COMPLETION, CallbackEvent.POD_TEARDOWN, CallbackEvent.POD_CLEANUP)
    fails = not outcome.succeeded and not task.skips(outcome)
    log_pod = task.spec_on_failure and fails
    pod = await _ended_pod(client, task, outcome) if log_pod or any(callbacks.wants(event) for event in events) else {}
    if log_pod:
        _log_group(f"Pod {task.namespace}/{task.name}", redact(pod))
    if fails:
        diagnosis = outcome.diagnosis_of(task)
        _log_group(f"Diagnosis of pod {task.namespace}/{task.name}: {diagnosis.category}", diagnosis.to_dict())
    if not outcome.succeeded:
        callbacks.grant(CALLBACKS_GRACE)
    error: Exception | None = None
    try:
        await _call(callbacks, CallbackEvent.POD_COMPLETION, pod, outcome)
        yield
        await _call(callbacks, CallbackEvent.POD_TEARDOWN, pod, outcome)
    except Exception as raised:  # not a cancellation
        error = raised
        callbacks.grant(CALLBACKS_GRACE)
    await finish(pod_of(client, task), task, succeeded=outcome.succeeded)
    await _call(callbacks, CallbackEvent.POD_CLEANUP, pod, outcome)
    if error is not None:
        raise error


async def _call(callbacks: Callbacks, event: CallbackEvent, pod: Json, outcome: Outcome) -> None:
    """Call the user's functions. Their taking too long fails a task that has succeeded, and no other."""
    try:
        await callbacks.pod_event(event, pod)
    except CallbackTimeoutError as error:
        if outcome.succeeded:
            raise
        log.warning("%s", error)


async def _ended_pod(client: Client, task: PodTask, outcome: Outcome) -> Json:
    """Return the pod for people to look at. They go by its phase, so wait a moment for the last one."""
    found = await last_pod(client, task)
    if outcome.exit_code is None or _has_last_phase(assess(pod_from_dict(found), task.base_container)):
        return found
    with suppress(asyncio.TimeoutError):
        async with timeout(PHASE_TIMEOUT), subscribe(pod_of(client, task), task) as feed:
            while not (view := await feed.next()).presence.final:
                if _has_last_phase(assess(view.pod, task.base_container)):
                    break
    return await last_pod(client, task)


def _has_last_phase(state: PodState) -> bool:
    """Whether the pod's phase is final, or will not be for as long as another main container runs."""
    return state.phase in TERMINAL_PHASES or bool(state.verdict.ended and state.running_main_containers)


def _log_group(title: str, content: Json) -> None:
    """Log an object as a group, which Airflow's page folds. Its markers must be records of their own."""
    log.info("::group::%s", title)
    for text in split(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=LINE)):
        log.info("%s", text)
    log.info("::endgroup::")
