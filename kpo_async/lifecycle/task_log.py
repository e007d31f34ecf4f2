"""Stream the logs of a pod's containers into the task's log, and hand their lines to the user's progress callbacks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.compat import timeout
from kpo_async.exceptions import ApiError
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import Presence, View
from kpo_async.lease import lease
from kpo_async.lifecycle.ownership import last_pod, pod_of, subscribe
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LineFormat, LogPlan
from kpo_async.logs.pod import follow_pod
from kpo_async.logs.records import LogRecord, Sink
from kpo_async.pod.names import CURSORS_ANNOTATION
from kpo_async.pod.status import assess
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask

log = logging.getLogger(__name__)
pod_log = logging.getLogger("kpo_async.pod_log")
"""The logger of the containers' own lines, as users see it in the task's log."""

LOGS_TIMEOUT = 15.0
"""Seconds that an ended pod's logs may take to arrive before a worker has to emit the remaining ones: the triggerer's
log takes less than many pods can write, a worker has one of its own."""
REMAINING_LOGS_TIMEOUT = 600.0
"""Seconds for those."""
RUNNING_POD_TIMEOUT = 5.0
"""Seconds for the log so far of a pod that still runs, which has no end to wait for."""
SAVE_TIMEOUT = 5.0
"""Seconds that a triggerer which stops spends on saving its cursors; it is killed after ten."""
REPEATED = "lines that another process may have shown before are repeated"


@asynccontextmanager
async def streaming_logs(
    pod: PodHandle,
    task: PodTask,
    callbacks: Callbacks,
    formatter: LineFormat | None,
    cursors: dict[str, Cursor],
    *,
    repeats: bool = False,
    from_start: bool = False,
) -> AsyncIterator[asyncio.Task[bool] | None]:
    """Stream the logs in a background task while the block runs; its result says whether they are complete.

    `cursors` says where to begin and is kept up to date; when the block is cancelled they are saved on the pod. Without
    them, begin where the last triggerer has stopped, or `from_start`; `repeats` says whether another process may have
    shown lines. Yields None when no logs are wanted.
    """
    if task.logs is None:
        yield None
        return
    async with _progress(pod, task, callbacks) as report:

        def sink(record: LogRecord) -> None:
            pod_log.log(record.level, "%s", record.text)
            report(record)

        formatter = formatter and _logging_first_failure(formatter)
        work = _stream(
            pod, task, task.logs, formatter, sink, cursors, repeats=repeats, continues=not (cursors or from_start)
        )
        streaming = asyncio.create_task(work, name=f"logs of pod {pod}")
        try:
            yield streaming
        except asyncio.CancelledError:
            await _stop(streaming)
            await _save_cursors(pod, task, cursors)
            raise
        finally:
            await _stop(streaming)


async def wait_for_logs(task: PodTask, streaming: asyncio.Task[bool] | None, *, at_limit: bool) -> bool:
    """Give the logs of an ended pod time to arrive, and return whether no worker has to emit remaining ones.

    `at_limit`: the wait ended at a limit, so the pod still runs and its log has no end to wait for.
    """
    if streaming is None:
        return task.end_from_trigger
    time_limit = 0.0 if at_limit else _time_for_rest(task)
    await asyncio.wait([streaming], timeout=time_limit)
    if not streaming.done():
        if not at_limit:
            goes_on = "A worker continues the log" if task.deferred_at else "The log ends here"
            log.info("%s: the rest did not arrive within %.0f s of the pod's end", goes_on, time_limit)
        return at_limit
    if error := streaming.exception():
        log.warning("The log is incomplete: %s", error)
        return True
    # What could not be read here is not worth a worker to a task that needs none otherwise.
    return streaming.result() or task.end_from_trigger


def _time_for_rest(task: PodTask) -> float:
    """Return the seconds that the rest of an ended pod's log may take. No other process continues a worker's."""
    if task.deferred_at:
        return LOGS_TIMEOUT
    left = REMAINING_LOGS_TIMEOUT if task.deadline is None else task.deadline - time.time()
    return max(LOGS_TIMEOUT, min(left, REMAINING_LOGS_TIMEOUT))


async def emit_remaining_logs(
    client: Client, task: PodTask, outcome: Outcome, callbacks: Callbacks, *, formatter: LineFormat | None = None
) -> None:
    """Emit those logs of an ended pod that its trigger has not emitted."""
    pod, cursors = pod_of(client, task), dict(outcome.cursors)
    # A trigger that could not follow the pod does not know what another one before it has shown.
    repeats = outcome.status is OutcomeStatus.ERROR
    async with streaming_logs(pod, task, callbacks, formatter, cursors, repeats=repeats) as streaming:
        if streaming is not None:
            _, late = await asyncio.wait([streaming], timeout=REMAINING_LOGS_TIMEOUT)
            if late:
                log.warning("The log ends here: the rest did not arrive within %.0f s", REMAINING_LOGS_TIMEOUT)


async def emit_whole_log(
    client: Client, task: PodTask, outcome: Outcome, callbacks: Callbacks, *, formatter: LineFormat | None = None
) -> None:
    """Emit the logs of a pod from their beginning, for readers who do not see what its trigger has emitted."""
    pod = pod_of(client, task)
    if task.logs is None:
        return
    if (await _first_view(pod, task)).presence.final:
        log.warning("Pod %s is gone and its log with it: what it printed is in the triggerer's log folder", pod)
        return
    log.info("The whole log of pod %s follows: this task's page may not show what the triggerer wrote", pod)
    async with streaming_logs(pod, task, callbacks, formatter, {}, from_start=True) as streaming:
        if streaming is not None:
            ended = outcome.exit_code is not None
            await asyncio.wait([streaming], timeout=REMAINING_LOGS_TIMEOUT if ended else RUNNING_POD_TIMEOUT)


def _logging_first_failure(formatter: LineFormat) -> LineFormat:
    """Wrap `formatter` so that its first failure is logged: the lines are emitted without what it was to do to them."""
    failed = False

    def formatted(container: str, text: str) -> str:
        nonlocal failed
        try:
            return formatter(container, text)
        except Exception as error:
            if not failed:
                failed = True
                name = getattr(formatter, "__qualname__", repr(formatter))
                log.warning("log_formatter %s failed, so lines are emitted without it: %r", name, error)
            raise

    return formatted


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _stream(
    pod: PodHandle,
    task: PodTask,
    plan: LogPlan,
    formatter: LineFormat | None,
    sink: Sink,
    cursors: dict[str, Cursor],
    *,
    repeats: bool,
    continues: bool,
) -> bool:
    """Follow the logs from the cursors on; `continues`: from where the process before this one stopped."""
    if continues:
        cursors.update(await _load_cursors(pod, task, repeats))
    async with subscribe(pod, task) as feed:
        return await follow_pod(
            pod.client, feed, plan, sink, base=task.base_container, formatter=formatter, cursors=cursors
        )


async def _load_cursors(pod: PodHandle, task: PodTask, repeats: bool) -> dict[str, Cursor]:
    """Return where the process before this one stopped. Log a line when lines may come twice because of it."""
    view = await _first_view(pod, task)
    if view.pod is None:
        return {}
    saved = (view.pod.metadata.annotations or {}).get(CURSORS_ANNOTATION)
    if saved is not None:
        # A triggerer in between may have been killed, which saves nothing.
        log.info("The log continues where a triggerer stopped: %s", REPEATED)
        return msgspec.json.decode(saved, type=dict[str, Cursor])
    if repeats and any(container.started for container in assess(view.pod, task.base_container).containers):
        log.info("The log starts at its beginning: %s", REPEATED)
    return {}


async def _first_view(pod: PodHandle, task: PodTask) -> View:
    """Return the pod as it is now."""
    async with subscribe(pod, task) as feed:
        while (view := await feed.next()).presence is Presence.UNKNOWN:
            pass
    return view


async def _save_cursors(pod: PodHandle, task: PodTask, cursors: dict[str, Cursor]) -> None:
    """Write on the pod how much of its logs was emitted, for the triggerer that continues."""
    if not cursors or not task.deferred_at or not lease().holds:
        return
    annotations = {CURSORS_ANNOTATION: msgspec.json.encode(cursors).decode()}
    with suppress(ApiError, asyncio.TimeoutError):
        async with timeout(SAVE_TIMEOUT):
            await pod.patch({"metadata": {"annotations": annotations}})


@asynccontextmanager
async def _progress(pod: PodHandle, task: PodTask, callbacks: Callbacks) -> AsyncIterator[Callable[[LogRecord], None]]:
    """Yield the function that queues a record for the user's progress callbacks, so that they do not delay the logs."""
    if not callbacks.wants(CallbackEvent.PROGRESS):
        yield lambda record: None
        return
    records: asyncio.Queue[LogRecord | None] = asyncio.Queue()

    async def call() -> None:
        found = await last_pod(pod.client, task)
        while (record := await records.get()) is not None:
            for line in record.lines:
                await callbacks.progress(line.container, [(parse_time(line.timestamp), line.text)], found)

    calling = asyncio.create_task(call(), name=f"progress callbacks of pod {pod}")
    try:
        yield records.put_nowait
        records.put_nowait(None)
        await calling
    finally:
        await _stop(calling)
