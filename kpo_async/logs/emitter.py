"""Lines to log records, at a pace that the process can bear.

Airflow's trigger log takes about 1,500 records a second for the whole process and holds up the event loop while it
does. So all followers of a loop share one `EmissionScheduler`: it lets one of them at a time emit, never more than one record in a
row before the loop may do other things, and gives a record to each line only as long as records are plenty. Who has to
wait for a turn collects lines meanwhile, and then many lines become one record. A follower that has collected enough
stops reading, and the server is held back by TCP. Nobody emits while a lot of what was emitted has not been read.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from kpo_async.logs import channel
from kpo_async.logs.lines import LogLine
from kpo_async.logs.plan import LineFormat, level_of

RECORD_BYTES = 64 * 1024
"""Text of one record; longer ones are cut and lost on Airflow's way to the file (apache/airflow#66158)."""
RECORD_LINES = 1000
LINE_OVERHEAD = 200
"""Bytes of memory that a line takes beside its text."""
PENDING_BYTES = 256 * 1024
"""Memory that a follower collects before it stops reading."""
ALL_PENDING_BYTES = 16 * 1024 * 1024
"""The same for all followers of a loop together."""
UNREAD_BYTES = 64 * 1024
"""What may be on its way to the supervisor: with one more record, it still fits into the socket of 208 KiB."""


@dataclass(frozen=True)
class LogRecord:
    """What is logged at once: one line, or many under load. `text` is formatted, `lines` are as they were read."""

    level: int
    text: str
    lines: tuple[LogLine, ...]


Sink = Callable[[LogRecord], None]
"""Where records go: a logger, in the end. Called on the event loop, in the context of who follows."""


class EmissionScheduler:
    """Whose turn it is to emit, on one event loop."""

    def __init__(self, *, rate: float = 200.0, burst: int = 100, patience: float = 1.0) -> None:
        """`rate`, `burst`: records a second; more if otherwise somebody had to wait for longer than `patience`."""
        self._loop = asyncio.get_running_loop()
        self._rate, self._burst, self._patience = rate, burst, patience
        self._tokens = float(burst)
        self._counted_at = self._loop.time()
        self._queue: deque[Emitter] = deque()
        self._scheduled = False
        self.pending = 0
        """Bytes collected by all emitters."""
        self.reading = asyncio.Lock()
        """Held while a lot is read, up to the loop's next round: else all followers might do so in the same round."""

    @property
    def full(self) -> bool:
        return self.pending >= ALL_PENDING_BYTES

    def request(self, emitter: Emitter) -> None:
        """Queue for a turn."""
        self._queue.append(emitter)
        self._schedule()

    def cancel(self, emitter: Emitter) -> None:
        self._queue.remove(emitter)

    def _schedule(self) -> None:
        if self._scheduled or not self._queue:
            return
        self._scheduled = True
        self._refill()
        if channel.unread() > UNREAD_BYTES:
            self._loop.call_later(channel.LOOK, self._turn, context=contextvars.Context())
        elif self._tokens >= 1:
            self._loop.call_soon(self._turn, context=contextvars.Context())
        else:
            self._loop.call_later(
                (1 - self._tokens) / self._effective_rate(), self._turn, context=contextvars.Context()
            )

    def _turn(self) -> None:
        self._scheduled = False
        if self._queue and channel.unread() <= UNREAD_BYTES:
            self._refill()
            emitter = self._queue.popleft()
            self._tokens -= 1
            if emitter.emit(single=self._tokens >= emitter.lines):
                self._queue.append(emitter)
        self._schedule()

    def _refill(self) -> None:
        now = self._loop.time()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._effective_rate())
        self._counted_at = now

    def _effective_rate(self) -> float:
        return max(self._rate, len(self._queue) / self._patience)


_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, EmissionScheduler] = WeakKeyDictionary()


def emission_scheduler() -> EmissionScheduler:
    """The one that all followers of the running loop share."""
    loop = asyncio.get_running_loop()
    if loop not in _paces:
        _paces[loop] = EmissionScheduler()
    return _paces[loop]


class Emitter:
    """Collects the lines of one follower and emits them when it is its turn. Close it: that emits the rest."""

    def __init__(self, format_line: LineFormat, sink: Sink, *, shared: EmissionScheduler | None = None) -> None:
        self._format_line, self._sink = format_line, sink
        self._pace = shared or emission_scheduler()
        self._context = contextvars.copy_context()
        self._pending: deque[LogLine] = deque()
        self._bytes = 0
        self._queued = False
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def reading(self) -> asyncio.Lock:
        """See `EmissionScheduler.reading`."""
        return self._pace.reading

    @property
    def lines(self) -> int:
        """How many lines wait to be emitted."""
        return len(self._pending)

    def put(self, lines: list[LogLine]) -> None:
        """Take lines; they appear as soon as it is our turn. Raises what the sink raised."""
        if self._failure is not None:
            raise self._failure
        size = sum(len(line.text) + LINE_OVERHEAD for line in lines)
        self._pending.extend(lines)
        self._bytes += size
        self._pace.pending += size
        if self._bytes >= PENDING_BYTES or self._pace.full:
            self._room.clear()
        if self._pending and not self._queued:
            self._queued = True
            self._pace.request(self)

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    async def emptied(self) -> None:
        """Wait until nothing is left to be emitted."""
        while self._pending and self._failure is None:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Emit what is left at once, though the loop stands still for it."""
        if self._queued:
            self._pace.cancel(self)
            self._queued = False
        while self._pending and self._failure is None:
            self._one(single=False)
        self._pace.pending -= self._bytes
        self._bytes = 0

    def emit(self, *, single: bool) -> bool:
        """Take a turn: one record. Returns whether another turn is wanted."""
        self._one(single=single)
        self._queued = bool(self._pending) and self._failure is None
        if self._bytes < PENDING_BYTES // 2 or self._failure is not None:
            self._room.set()
        if not self._queued:
            self._empty.set()
        return self._queued

    def _one(self, *, single: bool) -> None:
        lines, level = self._take(1 if single else RECORD_LINES)
        try:
            self._context.run(self._show, lines, level)
        except Exception as error:  # the sink is the caller's: its error is raised where the caller can see it
            self._failure = error

    def _show(self, lines: list[LogLine], level: int) -> None:
        text = "\n".join(self._format_line(line.container, line.text) for line in lines)
        self._sink(LogRecord(level, text, tuple(lines)))

    def _take(self, limit: int) -> tuple[list[LogLine], int]:
        """Lines for one record: neighbours of one level, no more than a record holds."""
        level = level_of(self._pending[0].text)
        taken: list[LogLine] = []
        size = 0
        while self._pending and len(taken) < limit:
            line = self._pending[0]
            if taken and (size + len(line.text) > RECORD_BYTES or level_of(line.text) != level):
                break
            taken.append(self._pending.popleft())
            size += len(line.text)
        freed = size + len(taken) * LINE_OVERHEAD
        self._bytes -= freed
        self._pace.pending -= freed
        return taken, level
