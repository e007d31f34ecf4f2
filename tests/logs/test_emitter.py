"""Lines become records at a pace: one record per line while there is time, many lines per record under load."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpo_async.logs.emitter import (
    ALL_PENDING_BYTES,
    PENDING_BYTES,
    RECORD_BYTES,
    RECORD_LINES,
    EmissionScheduler,
    Emitter,
    LogRecord,
    emission_scheduler,
)
from kpo_async.logs.lines import LogLine
from kpo_async.logs.plan import line_format
from tests.virtual_time import VirtualTimeLoop


def run_in_virtual_time(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that only needs timers, without waiting for any."""
    loop = VirtualTimeLoop(grace=0)
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


def lines(*texts: str, container: str = "base") -> list[LogLine]:
    return [LogLine(container, "2026-11-21T09:00:00.0Z", text) for text in texts]


async def settle() -> None:
    """Let the loop do all that is due, without time passing."""
    for _ in range(1000):
        await asyncio.sleep(0)


@pytest.mark.virtual_time
async def test_a_few_lines_are_a_record_each_at_once() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    emitter.put(lines("one", "two", "three"))
    await settle()
    assert [record.text for record in records] == ["[base] one", "[base] two", "[base] three"]
    assert asyncio.get_running_loop().time() == 0


@pytest.mark.virtual_time
async def test_many_lines_are_few_records() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    texts = [str(n) for n in range(10_000)]
    emitter.put(lines(*texts))
    await settle()
    assert [line.text for record in records for line in record.lines] == texts
    assert len(records) == 10_000 / RECORD_LINES
    assert records[0].text.startswith("[base] 0\n[base] 1\n")


@pytest.mark.virtual_time
async def test_no_record_is_longer_than_airflow_can_carry() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(prefix=False), records.append)
    emitter.put(lines(*["x" * 1000] * 500))
    await settle()
    assert sum(len(record.lines) for record in records) == 500
    assert all(len(record.text) <= RECORD_BYTES + RECORD_LINES for record in records)


@pytest.mark.virtual_time
async def test_a_record_holds_lines_of_one_level() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    emitter.put(lines(*["x"] * 200, *["ERROR y"] * 200, *["x"] * 200))
    await settle()
    assert [record.level for record in records] == [logging.INFO, logging.ERROR, logging.INFO]


def test_a_chatty_container_does_not_use_up_the_records_of_the_process() -> None:
    """One line a millisecond for ten seconds: few records, none late, and each line once."""
    run_in_virtual_time(_a_chatty_container())


async def _a_chatty_container() -> None:
    loop = asyncio.get_running_loop()
    records: list[tuple[float, LogRecord]] = []
    emitter = Emitter(line_format(), lambda record: records.append((loop.time(), record)))
    for n in range(10_000):
        emitter.put(lines(f"{n} {loop.time()}"))
        await asyncio.sleep(0.001)
    await asyncio.sleep(2)
    texts = [line.text for _, record in records for line in record.lines]
    assert [int(text.split()[0]) for text in texts] == list(range(10_000))
    assert len(records) <= 10 * 200 + 200
    delays = [at - float(line.text.split()[1]) for at, record in records for line in record.lines]
    assert max(delays) < 0.1


@pytest.mark.parametrize("pods", [200, 1000])
def test_with_many_chatty_containers_every_line_still_appears_within_two_seconds(pods: int) -> None:
    run_in_virtual_time(_chatty_containers(pods))


async def _chatty_containers(pods: int) -> None:
    loop = asyncio.get_running_loop()
    delays: list[float] = []

    def sink(record: LogRecord) -> None:
        delays.extend(loop.time() - float(line.text) for line in record.lines)

    emitters = [Emitter(line_format(), sink) for _ in range(pods)]
    for _ in range(25):
        for emitter in emitters:
            emitter.put(lines(str(loop.time())))
        await asyncio.sleep(0.1)
    await asyncio.sleep(3)
    assert len(delays) == 25 * pods
    assert sorted(delays)[int(len(delays) * 0.95)] < 2


@pytest.mark.virtual_time
async def test_the_loop_gets_its_turn_after_every_record() -> None:
    longest = run = 0

    def sink(record: LogRecord) -> None:
        nonlocal longest, run
        run += 1
        longest = max(longest, run)

    emitters = [Emitter(line_format(), sink) for _ in range(10)]
    for emitter in emitters:
        emitter.put(lines("x"))
    for _ in range(100):
        await asyncio.sleep(0)
        run = 0
    assert longest == 1


@pytest.mark.virtual_time
async def test_a_full_buffer_has_no_room_until_half_of_it_is_emitted() -> None:
    emitter = Emitter(line_format(), lambda record: None)
    emitter.put(lines(*["x" * RECORD_BYTES] * (2 * PENDING_BYTES // RECORD_BYTES)))
    waiting = asyncio.ensure_future(emitter.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await settle()
    assert waiting.done()


@pytest.mark.virtual_time
async def test_all_buffers_together_stay_within_their_budget() -> None:
    emitters = [Emitter(line_format(), lambda record: None) for _ in range(ALL_PENDING_BYTES // 200_000 + 2)]
    for emitter in emitters:
        emitter.put(lines("x" * 200_000))
    last = asyncio.ensure_future(emitters[-1].wait_for_room())
    await asyncio.sleep(0)
    assert not last.done()
    await asyncio.sleep(5)
    assert last.done()
    assert emission_scheduler().pending == 0


@pytest.mark.virtual_time
async def test_closing_emits_what_is_left() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    emitter.put(lines("one", "two"))
    emitter.close()
    await settle()
    assert [line.text for record in records for line in record.lines] == ["one", "two"]


@pytest.mark.virtual_time
async def test_records_are_logged_in_the_context_of_the_follower() -> None:
    """Airflow finds a trigger's log file by a context variable."""
    task = contextvars.ContextVar("task", default="none")
    seen: list[str] = []

    async def follow(name: str) -> None:
        task.set(name)
        Emitter(line_format(), lambda record: seen.append(task.get())).put(lines("x"))
        await settle()

    await asyncio.gather(*(asyncio.create_task(follow(name)) for name in ("a", "b", "c")))
    assert seen == ["a", "b", "c"]


@pytest.mark.virtual_time
async def test_an_error_of_the_sink_is_raised_by_the_next_put() -> None:
    def sink(record: LogRecord) -> None:
        raise OSError("the disk is full")

    emitter = Emitter(line_format(), sink)
    emitter.put(lines("one"))
    await settle()
    with pytest.raises(OSError, match="the disk is full"):
        emitter.put(lines("two"))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.floats(0, 0.3)), max_size=30))
def test_the_lines_of_each_container_stay_in_order(puts: list[tuple[int, int, float]]) -> None:
    async def run() -> None:
        scheduler = EmissionScheduler()
        records: list[LogRecord] = []
        emitters = [Emitter(line_format(), records.append, scheduler=scheduler) for _ in range(4)]
        expected: list[list[str]] = [[] for _ in emitters]
        for which, count, pause in puts:
            texts = [f"{which} {len(expected[which]) + n}" for n in range(count)]
            expected[which] += texts
            emitters[which].put(lines(*texts, container=str(which)))
            await asyncio.sleep(pause)
        for emitter in emitters:
            emitter.close()
        for which, texts in enumerate(expected):
            shown = [line.text for record in records for line in record.lines if line.container == str(which)]
            assert shown == texts
        assert scheduler.pending == 0

    run_in_virtual_time(run())
