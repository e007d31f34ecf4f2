"""The end of a container's log, and the lines that follow, as they are written.

What may be shown is what the task's own log shows: the same containers, with the same secrets masked, as the pod's
annotation says. The pod is read from its API server for each request, so that any process of Airflow's API server can
answer, and only a pod of this installation is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager

import msgspec

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.compat import timeout
from kpo_async.exceptions import KpoError, NotFoundError, NotStartedError
from kpo_async.hooks.airflow import masked
from kpo_async.hooks.kubernetes import resolve
from kpo_async.hooks.masking import mask_secrets_of
from kpo_async.kube.client import Client, connect
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.lifecycle.summary import record_of
from kpo_async.pod.names import INSTALLATION_LABEL, MANAGED_LABEL, TRUE
from kpo_async.pod.status import assess
from kpo_async.reconciler.places import Place
from kpo_async.ui.server_sent import LIFE, event, server_is_stopping

TAIL = 200
"""Lines that are sent at first, and at most in each later event: of a fast log, the page shows the end."""
LINE_LIMIT = 4096
"""Characters of a line that are shown."""
UNFINISHED_LIMIT = 2**16
"""Bytes without a line end that are shown as a line."""
PERIOD = 0.5
"""Seconds for which lines are collected before they are sent."""
READ_AHEAD = 16
"""Chunks that are read in a period. A faster log waits at its server."""


class FoundPod(msgspec.Struct, frozen=True):
    """A pod whose log is wanted, and what its task says about it."""

    place: Place
    pod: Pod
    record: TaskRecord


async def find(place: Place, name: str, uid: str, installation: str) -> FoundPod | None:
    """Return the pod; None if this installation has none. Raises `KpoError` when its cluster does not answer."""
    async with _client(place) as client:
        try:
            pod = pod_from_dict(await client.get("pods", name, place.namespace))
        except NotFoundError:
            return None
    labels, record = pod.metadata.labels or {}, record_of(pod)
    is_ours = labels.get(MANAGED_LABEL) == TRUE and labels.get(INSTALLATION_LABEL) == installation
    return FoundPod(place, pod, record) if is_ours and record is not None and pod.metadata.uid == uid else None


async def lines(found: FoundPod, container: str) -> AsyncGenerator[bytes, None]:
    """Yield the events for one page: `tail` replaces the lines that it shows, `more` adds to them, `end` says why."""
    if reason := _refusal(found, container):
        yield end_event(reason)
        return
    await mask_secrets_of(found.record.masked_connections, found.record.masked_variables)
    try:
        async with _client(found.place) as client, aclosing(_follow(client, found.pod, container)) as events:
            async for one in events:
                yield one
    except NotStartedError:
        yield end_event("The container has not started yet.")
    except NotFoundError:
        yield end_event("The pod is gone. The task's log has its last lines.")
    except KpoError as error:
        yield end_event(str(error))


def _refusal(found: FoundPod, container: str) -> str:
    """Return why the log is not shown; empty if it may be."""
    plan = found.record.logs
    if plan is None:
        return (
            "This task formats its pod's lines (log_formatter), which only its worker or triggerer can do, or shows "
            "none (get_logs=False). The link Log above leads to the task's own log."
        )
    state = assess(found.pod, found.record.base_container)
    if container not in {selected.name for selected in plan.select(state)}:
        return f"The task's log does not show container {container!r} (container_logs, init_container_logs)."
    return ""


async def _follow(client: Client, pod: Pod, container: str) -> AsyncGenerator[bytes, None]:
    clock = asyncio.get_running_loop().time
    end, name, metadata = clock() + LIFE, "tail", pod.metadata
    log = client.log(
        metadata.name, metadata.namespace, container=container, follow=True, timestamps=False, tail_lines=TAIL
    )
    async with log as chunks, _read_ahead(chunks) as queue:
        rest = b""
        while clock() < end and not server_is_stopping():
            read = await _collect(queue)
            is_over = read[-1:] == [b""]
            *whole, rest = (rest + b"".join(read)).split(b"\n")
            if rest and (is_over or len(rest) > UNFINISHED_LIMIT):
                whole.append(rest)
                rest = b""
            if whole or name == "tail":
                yield event(name, {"lines": _shown(whole)})
                name = "more"
            if is_over:
                yield end_event("The container has ended.")
                return


@asynccontextmanager
async def _read_ahead(chunks: AsyncIterator[bytes]) -> AsyncIterator[asyncio.Queue[bytes | KpoError]]:
    """Yield a queue that fills with chunks, and ends with an empty one or with the error that ended them."""
    queue: asyncio.Queue[bytes | KpoError] = asyncio.Queue(READ_AHEAD)

    async def read() -> None:
        try:
            async for chunk in chunks:
                await queue.put(chunk)
            await queue.put(b"")
        except KpoError as error:
            await queue.put(error)

    reading = asyncio.create_task(read(), name="kpo-async log for the page")
    try:
        yield queue
    finally:
        reading.cancel()
        await asyncio.wait([reading])


async def _collect(queue: asyncio.Queue[bytes | KpoError]) -> list[bytes]:
    """Return the chunks that arrive within `PERIOD` seconds. Raises the error that ended them."""
    read: list[bytes] = []
    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout(PERIOD):
            while not read or read[-1]:
                chunk = await queue.get()
                if isinstance(chunk, KpoError):
                    raise chunk
                read.append(chunk)
    return read


def _shown(raw: Iterable[bytes]) -> list[str]:
    """Return the last lines as text, without secrets."""
    return [masked(line.decode("utf-8", "replace").rstrip("\r"))[:LINE_LIMIT] for line in deque(raw, TAIL)]


def end_event(reason: str) -> bytes:
    """Return the event that says why a log has no more lines."""
    return event("end", {"reason": reason})


@asynccontextmanager
async def _client(place: Place) -> AsyncIterator[Client]:
    source, _ = await resolve(place.cluster)
    async with connect(source) as client:
        yield client
