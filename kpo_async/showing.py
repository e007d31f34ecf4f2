"""The logs of a task's pod, shown in the task's own log while something else goes on, and users' progress callbacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from kpo_async.callbacks import Callbacks, Hook
from kpo_async.handover import PodTask
from kpo_async.kube.client import Client
from kpo_async.kube.informer import Subscription, follow
from kpo_async.logs import Cursor, LogPlan, LogRecord, follow_pod
from kpo_async.ownership import last_pod
from kpo_async.pod.names import SELECTOR
from kpo_async.pod.status import parse_time

Formatter: TypeAlias = Callable[[str, str], str]
log = logging.getLogger(__name__)


def followed(client: Client, task: PodTask) -> AbstractAsyncContextManager[Subscription]:
    """A subscription of its own to the task's pod."""
    return follow(client, task.namespace, task.name, task.uid, selector=SELECTOR, poll_interval=task.poll_interval)


@asynccontextmanager
async def shown_logs(
    client: Client,
    task: PodTask,
    callbacks: Callbacks,
    formatter: Formatter | None,
    cursors: dict[str, Cursor],
) -> AsyncIterator[asyncio.Task[bool] | None]:
    """Follow the logs in a task of their own for as long as the block runs; None when no logs are wanted here."""
    if task.logs is None:
        yield None
        return
    plan = LogPlan(
        base=task.base_container,
        container_logs=task.logs.containers,
        init_container_logs=task.logs.init_containers,
        prefix=task.logs.prefix,
        formatter=formatter,
    )
    async with followed(client, task) as feed, _progress(client, task, callbacks) as tell:

        def sink(record: LogRecord) -> None:
            log.log(record.level, "%s", record.text)
            tell(record)

        work = follow_pod(client, feed, plan, sink, cursors=cursors)
        showing = asyncio.create_task(work, name=f"logs of pod {task.namespace}/{task.name}")
        try:
            yield showing
        finally:
            showing.cancel()
            await asyncio.wait([showing])


@asynccontextmanager
async def _progress(client: Client, task: PodTask, callbacks: Callbacks) -> AsyncIterator[Callable[[LogRecord], None]]:
    """Hand the lines to the users' progress callbacks, one after the other, without holding up the logs."""
    if not callbacks.wants(Hook.PROGRESS):
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
        calling.cancel()
        await asyncio.wait([calling])
