"""Buffer one follower's lines and emit them as log records, in the turns that the scheduler gives.

While a follower waits for its turn, its lines are buffered, and then many of them become one record. A follower with a
full buffer stops reading, so that TCP holds the server back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from kpo_async.compat import timeout
from kpo_async.logs.lines import Cursor, LogLine, Position, note
from kpo_async.logs.plan import LineFormat
from kpo_async.logs.records import Piece, Sink, fits, next_size, pieces, record_of
from kpo_async.logs.scheduler import SMALL_BACKLOG, EmissionScheduler, emission_scheduler

BUFFER_BYTES = 256 * 1024
"""Memory of one follower's buffer."""
PIECE_OVERHEAD = 500
"""Bytes of memory that a line takes beside its text."""
FLUSH_TIMEOUT = 2.0
"""Seconds in which the rest is emitted when a follower is cancelled."""
LAG_SAID_FROM = 10.0
"""Seconds that a log must be behind for a note to say so."""
LAG_SAID_EVERY = 60.0

LagOf = Callable[[str], float | None]
"""How many seconds ago a timestamp was, None if that does not matter."""


class Emitter:
    """One follower's buffer. Close it: that emits the rest."""

    def __init__(
        self,
        format_line: LineFormat,
        sink: Sink,
        *,
        scheduler: EmissionScheduler | None = None,
        cursor: Cursor | None = None,
        lag_of: LagOf = lambda timestamp: None,
    ) -> None:
        """`cursor`: where the lines to come begin. `lag_of`: for the notes that say how far the log is behind."""
        self._format_line, self._sink, self._lag_of = format_line, sink, lag_of
        self._scheduler = scheduler or emission_scheduler()
        self._context = contextvars.copy_context()
        self._pending: deque[Piece] = deque()
        self._memory = 0
        self.backlog = 0
        """JSON bytes to be emitted."""
        self._container = ""
        self._start = cursor or Cursor()
        self._position: Position | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._lag_said_at: float | None = None
        self._failure: Exception | None = None

    @property
    def parsing(self) -> asyncio.Lock:
        """See `EmissionScheduler.parsing`."""
        return self._scheduler.parsing

    @property
    def cursor(self) -> Cursor:
        """Where the emitted lines end."""
        return self._start if self._position is None else Cursor.at(self._position)

    def put(self, lines: list[LogLine]) -> None:
        """Buffer lines, to be emitted at the next turn. Raises what the sink raised."""
        if self._failure is not None:
            raise self._failure
        for line in lines:
            self._container = line.container
            for piece in pieces(line, self._format_line):
                self._pending.append(piece)
                self._account(piece, 1)
        if self._memory >= BUFFER_BYTES or (self._scheduler.full and self.backlog > SMALL_BACKLOG):
            self._room.clear()
        if self._pending:
            self._empty.clear()
            self._scheduler.enqueue(self)

    @property
    def lag(self) -> float | None:
        """How many seconds old the next line to be emitted is; None if there is none, or it does not matter."""
        line = self._pending[0].line if self._pending else None
        return None if line is None else self._lag_of(line.timestamp)

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        """Wait until the buffer takes more."""
        await self._room.wait()

    async def wait_until_empty(self) -> None:
        """Wait until everything has been emitted, or the sink has failed."""
        await self._empty.wait()

    async def aclose(self) -> None:
        """Emit the rest in the turns of `FLUSH_TIMEOUT` seconds. What is left then is dropped, after a note.

        Where another process may show the same log, all of it is dropped, without a note. `cursor` says where the
        dropped lines begin.
        """
        try:
            with suppress(asyncio.TimeoutError):
                async with timeout(0 if self._scheduler.lapsed else FLUSH_TIMEOUT):
                    await self.wait_until_empty()
        finally:
            self._drop()

    def emit(self, limit: int, *, single: bool) -> int:
        """Emit one record of at most `limit` bytes, with `single` of one line. Return its bytes."""
        batch, size = self._next_batch(limit, single=single)
        try:
            self._context.run(self._sink, record_of(batch))
        except Exception as error:  # the sink is the caller's: `put` raises its error where the caller can see it
            self._failure = error
            self._clear()
        for piece in batch:
            if piece.line is not None and piece.line.position is not None:
                self._position = piece.line.position
        self._say_lag(batch[-1])
        if self._memory < BUFFER_BYTES // 2:
            self._room.set()
        if not self._pending:
            self._empty.set()
        return size

    def _next_batch(self, limit: int, *, single: bool) -> tuple[list[Piece], int]:
        """Remove the pieces of one record from the buffer."""
        batch: list[Piece] = []
        size = 0
        while self._pending and fits(self._pending[0], batch, size, limit) and not (single and batch):
            piece = self._pending.popleft()
            self._account(piece, -1)
            batch.append(piece)
            size = next_size(size, piece)
        return batch, size

    def _say_lag(self, piece: Piece) -> None:
        """Add a note when the log has fallen behind, now and then while it is, and when it has caught up."""
        now = asyncio.get_running_loop().time()
        if self._lag_said_at is not None and not self._pending:
            self._lag_said_at = None
            self._say("this log is up to date again")
        elif not self._room.is_set() and (self._lag_said_at is None or now - self._lag_said_at >= LAG_SAID_EVERY):
            lag = self._lag_of(piece.line.timestamp) if piece.line is not None else None
            if lag is not None and lag >= LAG_SAID_FROM:
                self._lag_said_at = now
                self._say(f"this log is {lag:.0f} s behind: more is written than Airflow's log takes")

    def _say(self, text: str) -> None:
        (piece,) = pieces(note(self._container, text), self._format_line)
        self._pending.appendleft(piece)
        self._account(piece, 1)

    def _account(self, piece: Piece, sign: int) -> None:
        memory = sign * (2 * len(piece.text) + PIECE_OVERHEAD)
        self._memory += memory
        self._scheduler.buffered_bytes += memory
        self._scheduler.buffered_pieces += sign
        self.backlog += sign * piece.size

    def _drop(self) -> None:
        left = sum(piece.line is not None for piece in self._pending)
        self._clear()
        self._scheduler.cancel(self)
        if left and not self._scheduler.lapsed:
            line = note(self._container, f"{left} more lines were read and not shown: there was no time left")
            self._context.run(self._sink, record_of(list(pieces(line, self._format_line))))

    def _clear(self) -> None:
        for piece in self._pending:
            self._account(piece, -1)
        self._pending.clear()
        self._empty.set()
        self._room.set()
