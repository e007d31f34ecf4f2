"""How many logs are streamed at once from one API server, and who waits.

Each stream is a connection through the API server to a kubelet. When there are more containers than slots, a stream
that has had its time gives way to who has waited longest, and queues up again: pods that run for days starve nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kpo_async.kube.client import Client

STREAMS = 300
QUANTUM = 5.0
"""Seconds that a stream may keep its slot while others wait."""


@dataclass(eq=False)
class _Holder:
    preempt: Callable[[], None]
    since: float
    asked: asyncio.TimerHandle | None = None


class StreamLimit:
    """A fair semaphore whose holders can be asked to give way."""

    def __init__(self, streams: int = STREAMS, *, quantum: float = QUANTUM) -> None:
        self._free, self._quantum = streams, quantum
        self._holders: deque[_Holder] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def hold(self, preempt: Callable[[], None]) -> AsyncIterator[None]:
        """A slot for the block. `preempt` is called, once, when somebody else should have it."""
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._wait()
        holder = _Holder(preempt, asyncio.get_running_loop().time())
        self._holders.append(holder)
        try:
            if self._waiting:
                self._ask_one()
            yield
        finally:
            if holder.asked is not None:
                holder.asked.cancel()
            self._holders.remove(holder)
            self._release()

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._ask_one()
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

    def _ask_one(self) -> None:
        """Ask the longest holder that has not been asked yet, once its time is over."""
        loop = asyncio.get_running_loop()
        holder = next((holder for holder in self._holders if holder.asked is None), None)
        if holder is not None:
            holder.asked = loop.call_at(max(loop.time(), holder.since + self._quantum), holder.preempt)


_slots: WeakKeyDictionary[Client, StreamLimit] = WeakKeyDictionary()


def stream_limit_of(client: Client) -> StreamLimit:
    """The slots that all followers share who use this client."""
    if client not in _slots:
        _slots[client] = StreamLimit()
    return _slots[client]
