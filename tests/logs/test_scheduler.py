"""Turns are fair by bytes, small backlogs go first, and nothing is written while enough is unread."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.logs import scheduler as module
from kpo_async.logs.scheduler import QUANTUM, RECORDS_PER_SECOND, SMALL_BACKLOG, SMALL_TURNS, EmissionScheduler
from tests.virtual_time import timers_only


class Backlog:
    """A source of bytes that emits records of up to `record` bytes."""

    def __init__(self, name: str, backlog: int, record: int, turns: list[str]) -> None:
        self.name, self.backlog, self.record, self._turns = name, backlog, record, turns
        self.emitted = 0
        self.limits: set[int] = set()

    def emit(self, limit: int, *, single: bool) -> int:
        size = min(self.backlog, self.record, limit)
        self.limits.add(limit)
        self.backlog -= size
        self.emitted += size
        self._turns.append(self.name)
        return size


@timers_only
async def test_large_backlogs_get_equal_shares_of_bytes_whatever_the_size_of_their_records() -> None:
    turns: list[str] = []
    scheduler = EmissionScheduler()
    sources = [Backlog(str(record), 10**9, record, turns) for record in (200, 2000, 4000)]
    for source in sources:
        scheduler.enqueue(source)
    await asyncio.sleep(60)
    # Each record costs what is around its text, too.
    shares = [source.emitted * (1 + module.ENVELOPE_BYTES / source.record) for source in sources]
    assert max(shares) - min(shares) < 4 * QUANTUM
    assert len(turns) == pytest.approx(60 * RECORDS_PER_SECOND, rel=0.05)
    for source in sources:
        scheduler.cancel(source)


@timers_only
async def test_a_small_backlog_goes_first() -> None:
    turns: list[str] = []
    scheduler = EmissionScheduler()
    large = [Backlog(f"large {n}", 10**9, 4000, turns) for n in range(20)]
    for source in large:
        scheduler.enqueue(source)
    await asyncio.sleep(10)
    turns.clear()
    scheduler.enqueue(Backlog("small", 100, 100, turns))
    await asyncio.sleep(0.1)
    assert turns.index("small") <= 1
    for source in large:
        scheduler.cancel(source)


@timers_only
async def test_large_backlogs_have_their_turns_however_many_small_ones_there_are() -> None:
    turns: list[str] = []
    scheduler = EmissionScheduler()
    sources = [Backlog("small", 1000, 1, turns) for _ in range(50)]
    sources.append(Backlog("large", 10**9, 100, turns))
    for source in sources:
        scheduler.enqueue(source)
    await asyncio.sleep(10)
    assert turns.count("large") >= len(turns) // SMALL_TURNS
    for source in sources:
        scheduler.cancel(source)


@timers_only
async def test_a_backlog_that_grows_loses_its_precedence() -> None:
    turns: list[str] = []
    scheduler = EmissionScheduler()
    growing, small = Backlog("growing", 10, 10, turns), Backlog("small", 10, 10, turns)
    scheduler.enqueue(growing)
    growing.backlog += SMALL_BACKLOG
    scheduler.enqueue(growing)
    scheduler.enqueue(small)
    await asyncio.sleep(1)
    assert turns[0] == "small"
    scheduler.cancel(growing)


@timers_only
async def test_records_are_small_only_while_others_wait() -> None:
    turns: list[str] = []
    scheduler = EmissionScheduler()
    alone = Backlog("alone", 100_000, 10**6, turns)
    scheduler.enqueue(alone)
    await asyncio.sleep(1)
    assert alone.limits == {module.RECORD_BYTES}
    both = [Backlog(name, 100_000, 10**6, turns) for name in ("one", "other")]
    for source in both:
        scheduler.enqueue(source)
    await asyncio.sleep(0.01)
    assert module.SHARED_RECORD_BYTES in both[0].limits
    await asyncio.sleep(5)
