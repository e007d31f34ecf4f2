"""Whose turn it is to emit, for all followers of one event loop.

Airflow's trigger log takes about 1,500 records a second for the whole process and blocks the event loop while it does,
and its supervisor reads 57 to 880 KB/s of them. So one emitter at a time may emit, never more than one record in a row
before the loop may do other things, one line per record only as long as records are plenty, and nothing while enough is
unread: what is emitted next is then read soon. While the process's lease has lapsed, nothing is emitted either.

Turns are fair by bytes. An emitter with a small backlog goes first: it costs the others little, and its lines and its
pod's end do not wait for those that write more than the supervisor can read. The others share the rest in equal parts,
by surplus round robin, and have at least every `SMALL_TURNS`-th turn.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from kpo_async.kube.retry import TokenBucket
from kpo_async.kube.shared import PerLoop
from kpo_async.lease import lease
from kpo_async.logs import channel
from kpo_async.logs.records import ENVELOPE_BYTES, RECORD_BYTES
from kpo_async.metrics import LOG_LAG, Metric, Tags, provide_gauges

RECORDS_PER_SECOND = 200.0
RECORD_BURST = 100
PATIENCE = 1.0
"""Seconds in which each emitter should have a turn: with very many of them, there are more records a second."""
UNREAD_BYTES = 24 * 1024
"""What may be unread before a record is written: half a second of the slowest supervisor, and more than the fastest one
reads between two looks."""
SMALL_BACKLOG = 8 * 1024
SHARED_RECORD_BYTES = 4 * 1024
"""JSON of a record's text while other emitters wait."""
QUANTUM = 4 * 1024
"""Bytes that an emitter with a large backlog may emit per round."""
SMALL_TURNS = 5
ALL_BUFFERS_BYTES = 16 * 1024 * 1024
"""Memory of all buffers of a loop."""


class Source(Protocol):
    """An emitter, as the scheduler sees it."""

    @property
    def backlog(self) -> int:
        """JSON bytes to be emitted."""

    @property
    def lag(self) -> float | None:
        """Age in seconds of the next line to be emitted, None if there is none or it does not matter."""

    def emit(self, limit: int, *, single: bool) -> int:
        """Emit one record of at most `limit` bytes, with `single` of one line. Return its bytes."""


class EmissionScheduler:
    """Gives turns to emitters. All of one event loop share one, see `emission_scheduler`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lease = lease()
        self._bucket = TokenBucket(RECORDS_PER_SECOND, RECORD_BURST)
        self._small: dict[Source, None] = {}
        """In the order of their turns."""
        self._large: dict[Source, int] = {}
        """The same, with the bytes that each may still emit in this round; negative if it emitted too many."""
        self._small_turns = 0
        """How many turns in a row went to small backlogs."""
        self._next_turn: asyncio.TimerHandle | None = None
        self.buffered_bytes = 0
        """Memory of all buffers."""
        self.buffered_pieces = 0
        self.parsing = asyncio.Lock()
        """Held while a large slice is parsed, up to the loop's next round: one follower per round may do that."""
        provide_gauges(self._gauges)

    def _gauges(self) -> Iterator[tuple[Metric, float, Tags]]:
        lags = (source.lag for source in chain(self._small, self._large))
        yield LOG_LAG, max(filter(None, lags), default=0.0), ()

    @property
    def full(self) -> bool:
        return self.buffered_bytes >= ALL_BUFFERS_BYTES

    @property
    def lapsed(self) -> bool:
        """Whether another process may show the same logs."""
        return not self._lease.holds

    def enqueue(self, source: Source) -> None:
        """Give `source` turns until its backlog is empty. To be called again when the backlog has grown."""
        if source.backlog > SMALL_BACKLOG:
            self._small.pop(source, None)
            self._large.setdefault(source, QUANTUM)
        elif source not in self._large:
            self._small.setdefault(source)
        self._schedule()

    def cancel(self, source: Source) -> None:
        """Give no further turn to `source`."""
        self._small.pop(source, None)
        self._large.pop(source, None)

    def _schedule(self) -> None:
        waiting = len(self._small) + len(self._large)
        if self._next_turn is not None or not waiting:
            return
        self._bucket.rate = max(RECORDS_PER_SECOND, waiting / PATIENCE)
        delay = self._bucket.delay() if self._may_emit() else channel.POLL_INTERVAL
        # In an empty context: the timer must not keep a follower's variables alive, nor log in its name.
        self._next_turn = self._loop.call_later(delay, self._turn, context=contextvars.Context())

    def _turn(self) -> None:
        self._next_turn = None
        if (self._small or self._large) and self._may_emit():
            alone = len(self._small) + len(self._large) == 1
            source = self._choose()
            single = self._bucket.tokens >= self.buffered_pieces
            self._bucket.spend()
            with channel.counting_written_bytes():
                used = source.emit(RECORD_BYTES if alone else SHARED_RECORD_BYTES, single=single)
            self._requeue(source, used + ENVELOPE_BYTES)
        self._schedule()

    def _may_emit(self) -> bool:
        return not self.lapsed and channel.unread_bytes() <= UNREAD_BYTES

    def _choose(self) -> Source:
        if self._small and (self._small_turns < SMALL_TURNS - 1 or not self._large):
            self._small_turns += 1
            return next(iter(self._small))
        self._small_turns = 0
        while (allowed := self._large[source := next(iter(self._large))]) <= 0:
            self._rotate(source, allowed)
        return source

    def _requeue(self, source: Source, used: int) -> None:
        allowed = self._large.get(source, 0) - used
        if source.backlog > SMALL_BACKLOG:
            self._small.pop(source, None)
            if source in self._large and allowed > 0:
                self._large[source] = allowed
            else:
                self._rotate(source, allowed)
        else:
            self.cancel(source)
            if source.backlog:
                self._small[source] = None

    def _rotate(self, source: Source, allowed: int) -> None:
        """Put `source` at the end of the round, to emit as much more in the next one."""
        self._large.pop(source, None)
        self._large[source] = allowed + QUANTUM


_schedulers = PerLoop(EmissionScheduler)


def emission_scheduler() -> EmissionScheduler:
    """Return the scheduler that all followers of the running loop share."""
    return _schedulers.get()
