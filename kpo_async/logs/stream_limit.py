"""How many logs are streamed at once from one API server.

Each stream is a connection through the API server to a kubelet. When there are more logs than streams, a stream that
has had its time is preempted by the follower that has waited longest, and queues up again: no log starves, however
long the pods run.
"""

from __future__ import annotations

import asyncio
import resource
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kpo_async.kube.client import Client

MAX_STREAMS = 300
FILES_FOR_STREAMS = 0.5
"""The share of the files a process may open that its log streams may take: watches, calls and Airflow need some."""
QUANTUM = 5.0
"""Seconds that a stream may go on while others wait."""


@dataclass(eq=False)
class _Holder:
    preempt: Callable[[], None]
    since: float
    preemption: asyncio.TimerHandle | None = None


class StreamLimit:
    """A fair semaphore whose holders can be preempted."""

    def __init__(self, streams: int = MAX_STREAMS, *, quantum: float = QUANTUM) -> None:
        self._free, self._quantum = streams, quantum
        self._holders: deque[_Holder] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def hold(self, preempt: Callable[[], None]) -> AsyncIterator[None]:
        """Hold one of the streams for the block. `preempt` is called at most once, when the block should end."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait()
        holder = _Holder(preempt, asyncio.get_running_loop().time())
        self._holders.append(holder)
        try:
            if self._waiting:
                self._preempt_next()
            yield
        finally:
            if holder.preemption is not None:
                holder.preemption.cancel()
            self._holders.remove(holder)
            self._release()

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._preempt_next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _preempt_next(self) -> None:
        """Preempt the oldest holder that is not being preempted yet, at the end of its quantum."""
        loop = asyncio.get_running_loop()
        holder = next((holder for holder in self._holders if holder.preemption is None), None)
        if holder is not None:
            holder.preemption = loop.call_at(max(loop.time(), holder.since + self._quantum), holder.preempt)


_limits: WeakKeyDictionary[Client, StreamLimit] = WeakKeyDictionary()


def stream_limit_of(client: Client) -> StreamLimit:
    """The stream limit that all followers using `client` share."""
    if client not in _limits:
        _limits[client] = StreamLimit(_most_streams())
    return _limits[client]


def _most_streams() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_STREAMS if files == resource.RLIM_INFINITY else max(1, min(MAX_STREAMS, int(files * FILES_FOR_STREAMS)))
