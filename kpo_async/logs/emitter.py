"""Lines to log records, at a pace that the process can bear.

Airflow's trigger log takes about 1,500 records a second for the whole process and blocks the event loop while it does.
So all followers of a loop share one `EmissionScheduler`. It lets one of them at a time emit, never more than one record
in a row before the loop may do other things, and one line per record only as long as records are plenty. While a
follower waits for its turn, its lines are buffered, and then many of them become one record. A follower with a full
buffer stops reading, so that TCP holds the server back. Emission pauses while the supervisor's socket is nearly full.
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
"""Memory of one follower's buffer."""
ALL_PENDING_BYTES = 16 * 1024 * 1024
"""Memory of all buffers of a loop."""
UNREAD_BYTES = 64 * 1024
"""What may be unread in the supervisor's socket: with one more record, it still fits into its 208 KiB."""


@dataclass(frozen=True)
class LogRecord:
    """What is logged at once: one line, or many under load. `text` is formatted, `lines` are as they were read."""

    level: int
    text: str
    lines: tuple[LogLine, ...]


Sink = Callable[[LogRecord], None]
"""Where records go: a logger, in the end. Called on the event loop, in the follower's context."""


class EmissionScheduler:
    """Whose turn it is to emit, on one event loop."""

    def __init__(self, *, rate: float = 200.0, burst: int = 100, patience: float = 1.0) -> None:
        """`rate`, `burst`: records a second; more if an emitter would otherwise wait for longer than `patience`."""
        self._loop = asyncio.get_running_loop()
        self._rate, self._burst, self._patience = rate, burst, patience
        self._tokens = float(burst)
        self._counted_at = self._loop.time()
        self._queue: deque[Emitter] = deque()
        self._scheduled = False
        self.pending = 0
        """Bytes in all buffers."""
        self.parsing = asyncio.Lock()
        """Held while a large slice is parsed, up to the loop's next round: one follower per round may do that."""

    @property
    def full(self) -> bool:
        return self.pending >= ALL_PENDING_BYTES

    def enqueue(self, emitter: Emitter) -> None:
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
        if channel.unread_bytes() > UNREAD_BYTES:
            self._loop.call_later(channel.POLL_INTERVAL, self._turn, context=contextvars.Context())
        elif self._tokens >= 1:
            self._loop.call_soon(self._turn, context=contextvars.Context())
        else:
            delay = (1 - self._tokens) / self._effective_rate()
            self._loop.call_later(delay, self._turn, context=contextvars.Context())

    def _turn(self) -> None:
        self._scheduled = False
        if self._queue and channel.unread_bytes() <= UNREAD_BYTES:
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


_schedulers: WeakKeyDictionary[asyncio.AbstractEventLoop, EmissionScheduler] = WeakKeyDictionary()


def emission_scheduler() -> EmissionScheduler:
    """The scheduler that all followers of the running loop share."""
    loop = asyncio.get_running_loop()
    if loop not in _schedulers:
        _schedulers[loop] = EmissionScheduler()
    return _schedulers[loop]


class Emitter:
    """Buffers the lines of one follower and emits them in its turns. Close it: that emits the rest."""

    def __init__(self, format_line: LineFormat, sink: Sink, *, scheduler: EmissionScheduler | None = None) -> None:
        self._format_line, self._sink = format_line, sink
        self._scheduler = scheduler or emission_scheduler()
        self._context = contextvars.copy_context()
        self._pending: deque[LogLine] = deque()
        self._bytes = 0
        self._queued = False
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def parsing(self) -> asyncio.Lock:
        """See `EmissionScheduler.parsing`."""
        return self._scheduler.parsing

    @property
    def lines(self) -> int:
        """How many lines are buffered."""
        return len(self._pending)

    def put(self, lines: list[LogLine]) -> None:
        """Buffer lines, to be emitted at the next turn. Raises what the sink raised."""
        if self._failure is not None:
            raise self._failure
        size = sum(len(line.text) + LINE_OVERHEAD for line in lines)
        self._pending.extend(lines)
        self._bytes += size
        self._scheduler.pending += size
        if self._bytes >= PENDING_BYTES or self._scheduler.full:
            self._room.clear()
        if self._pending and not self._queued:
            self._queued = True
            self._scheduler.enqueue(self)

    async def wait_for_room(self) -> None:
        """Wait until the buffer takes more."""
        await self._room.wait()

    async def wait_until_empty(self) -> None:
        """Wait until everything has been emitted, or the sink has failed."""
        while self._pending and self._failure is None:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Emit the rest at once, though the loop stands still for it."""
        if self._queued:
            self._scheduler.cancel(self)
            self._queued = False
        while self._pending and self._failure is None:
            self._emit_one(single=False)
        self._scheduler.pending -= self._bytes
        self._bytes = 0

    def emit(self, *, single: bool) -> bool:
        """Emit one record: `single`, of one line. Return whether another turn is needed."""
        self._emit_one(single=single)
        self._queued = bool(self._pending) and self._failure is None
        if self._bytes < PENDING_BYTES // 2 or self._failure is not None:
            self._room.set()
        if not self._queued:
            self._empty.set()
        return self._queued

    def _emit_one(self, *, single: bool) -> None:
        lines, level = self._next_batch(1 if single else RECORD_LINES)
        try:
            self._context.run(self._log, lines, level)
        except Exception as error:  # the sink is the caller's: `put` raises its error where the caller can see it
            self._failure = error

    def _log(self, lines: list[LogLine], level: int) -> None:
        text = "\n".join(self._format_line(line.container, line.text) for line in lines)
        self._sink(LogRecord(level, text, tuple(lines)))

    def _next_batch(self, limit: int) -> tuple[list[LogLine], int]:
        """Remove the lines of one record from the buffer: neighbours of one level, no more than a record holds."""
        level = level_of(self._pending[0].text)
        batch: list[LogLine] = []
        size = 0
        while self._pending and len(batch) < limit:
            line = self._pending[0]
            if batch and (size + len(line.text) > RECORD_BYTES or level_of(line.text) != level):
                break
            batch.append(self._pending.popleft())
            size += len(line.text)
        freed = size + len(batch) * LINE_OVERHEAD
        self._bytes -= freed
        self._scheduler.pending -= freed
        return batch, level
