"""The logs of a task's pod, shown in the task's own log while something else goes on, and users' progress callbacks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import msgspec

from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.compat import timeout
from kpo_async.exceptions import ApiError
from kpo_async.kube.client import Client
from kpo_async.kube.watch.informer import Presence, Subscription, follow
from kpo_async.lifecycle.ownership import last_pod
from kpo_async.logs.emitter import LogRecord, Sink
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LineFormat, LogPlan
from kpo_async.logs.pod import follow_pod
from kpo_async.pod.names import CURSORS_ANNOTATION, SELECTOR
from kpo_async.pod.status import assess
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)
pod_log = logging.getLogger("kpo_async.pod_log")
"""The logger of the containers' own lines, as users see it in the task's log."""

RESTARTED_AFTER = 20.0
"""Seconds after the deferral from which on a trigger that starts is not the first one of its task."""
LEAVING = 5.0
"""Seconds a triggerer that stops gives to writing down how far it has come; it is killed after ten."""


def followed(client: Client, task: PodTask) -> AbstractAsyncContextManager[Subscription]:
    """A subscription of its own to the task's pod."""
    return follow(client, task.namespace, task.name, task.uid, selector=SELECTOR, poll_interval=task.poll_interval)


@asynccontextmanager
async def streaming_logs(
    client: Client,
    task: PodTask,
    callbacks: Callbacks,
    formatter: LineFormat | None,
    cursors: dict[str, Cursor],
) -> AsyncIterator[asyncio.Task[bool] | None]:
    """Follow the logs in a task of their own for as long as the block runs; None when no logs are wanted here."""
    if task.logs is None:
        yield None
        return
    formatter = _told_of(formatter) if formatter is not None else None
    async with _progress(client, task, callbacks) as tell:

        def sink(record: LogRecord) -> None:
            pod_log.log(record.level, "%s", record.text)
            tell(record)

        work = _show(client, task, task.logs, formatter, sink, cursors)
        showing = asyncio.create_task(work, name=f"logs of pod {task.namespace}/{task.name}")
        try:
            yield showing
        except asyncio.CancelledError:
            await _stop(showing)
            await _leave_cursors(client, task, cursors)
            raise
        finally:
            await _stop(showing)


def _told_of(formatter: LineFormat) -> LineFormat:
    """The same, but the first time it fails is told: what it was to do to the lines is not seen in them then."""
    told = False

    def formatted(container: str, text: str) -> str:
        nonlocal told
        try:
            return formatter(container, text)
        except Exception as error:
            if not told:
                told = True
                name = getattr(formatter, "__qualname__", repr(formatter))
                log.warning("log_formatter %s failed, its lines are shown without it: %r", name, error)
            raise

    return formatted


async def _stop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _show(
    client: Client,
    task: PodTask,
    plan: LogPlan,
    formatter: LineFormat | None,
    sink: Sink,
    cursors: dict[str, Cursor],
) -> bool:
    if not cursors:
        cursors.update(await _left_cursors(client, task))
    async with followed(client, task) as feed:
        return await follow_pod(
            client, feed, plan, sink, base=task.base_container, formatter=formatter, cursors=cursors
        )


async def _left_cursors(client: Client, task: PodTask) -> dict[str, Cursor]:
    """Where the triggerer before this one stopped. It is said in the log when that is not known."""
    async with followed(client, task) as feed:
        while (view := await feed.next()).presence is Presence.UNKNOWN:
            pass
    if view.pod is None:
        return {}
    left = (view.pod.metadata.annotations or {}).get(CURSORS_ANNOTATION)
    if left is not None:
        # Whether there was a triggerer in between, which was killed and could leave nothing, is not known.
        log.info("The log goes on where a triggerer stopped: what another one has shown since comes again")
        return msgspec.json.decode(left, type=dict[str, Cursor])
    state = assess(view.pod, task.base_container)
    if task.deferred_at and state.started_at and time.time() - task.deferred_at > RESTARTED_AFTER:
        log.info("The log is shown from its beginning: another triggerer may have shown a part of it before")
    return {}


async def _leave_cursors(client: Client, task: PodTask, cursors: dict[str, Cursor]) -> None:
    """Write on the pod how far its logs were shown, for the triggerer that goes on with it."""
    if not cursors or not task.deferred_at:
        return
    left = msgspec.json.encode(cursors).decode()
    patch = {"metadata": {"uid": task.uid, "annotations": {CURSORS_ANNOTATION: left}}}
    with suppress(ApiError, asyncio.TimeoutError):
        async with timeout(LEAVING):
            await client.patch("pods", task.name, patch, task.namespace)


@asynccontextmanager
async def _progress(client: Client, task: PodTask, callbacks: Callbacks) -> AsyncIterator[Callable[[LogRecord], None]]:
    """Hand the lines to the users' progress callbacks, one after the other, without holding up the logs."""
    if not callbacks.wants(CallbackEvent.PROGRESS):
        yield lambda record: None
        return
    records: asyncio.Queue[LogRecord | None] = asyncio.Queue()

    async def call() -> None:
        pod = await last_pod(client, task)
        while (record := await records.get()) is not None:
            for line in record.lines:
                await callbacks.progress(line.container, [(parse_time(line.timestamp), line.text)], pod)

    calling = asyncio.create_task(call(), name=f"progress of pod {task.namespace}/{task.name}")
    try:
        yield records.put_nowait
        records.put_nowait(None)
        await calling
    finally:
        await _stop(calling)
