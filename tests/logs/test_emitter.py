"""Lines become records at a pace: one record per line while there is time, many lines per record under load."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpo_async.logs.emitter import BUFFER_BYTES, FLUSH_TIMEOUT, LAG_SAID_EVERY, Emitter
from kpo_async.logs.lines import Cursor, LineReader, LogLine
from kpo_async.logs.plan import line_format
from kpo_async.logs.records import RECORD_BYTES, LogRecord
from kpo_async.logs.scheduler import ALL_BUFFERS_BYTES, EmissionScheduler, emission_scheduler
from tests.virtual_time import timers_only


def lines(*texts: str, container: str = "base") -> list[LogLine]:
    return [LogLine(container, "2026-11-21T09:00:00.0Z", text) for text in texts]


async def settle() -> None:
    """Let the loop do all that is due, without time passing."""
    for _ in range(1000):
        await asyncio.sleep(0)


@timers_only
async def test_a_few_lines_are_a_record_each_at_once() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    emitter.put(lines("one", "two", "three"))
    await settle()
    assert [record.text for record in records] == ["[base] one", "[base] two", "[base] three"]
    assert asyncio.get_running_loop().time() == 0


@timers_only
async def test_many_lines_are_few_records() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    texts = [str(n) for n in range(10_000)]
    emitter.put(lines(*texts))
    await settle()
    assert [line.text for record in records for line in record.lines] == texts
    assert len(records) <= sum(len(f"[base] {text}") + 2 for text in texts) // RECORD_BYTES + 1
    assert records[0].text.startswith("[base] 0\n[base] 1\n")


@timers_only
async def test_a_chatty_container_does_not_use_up_the_records_of_the_process() -> None:
    """One line a millisecond for ten seconds: few records, none late, and each line once."""
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
@timers_only
async def test_with_many_chatty_containers_every_line_still_appears_within_two_seconds(pods: int) -> None:
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


@timers_only
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


@timers_only
async def test_a_full_buffer_has_no_room_until_half_of_it_is_emitted() -> None:
    emitter = Emitter(line_format(), lambda record: None)
    emitter.put(lines(*["x" * 1000] * (BUFFER_BYTES // 1000)))
    waiting = asyncio.ensure_future(emitter.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.sleep(1)
    assert waiting.done()


@timers_only
async def test_all_buffers_together_stay_within_their_budget() -> None:
    emitters = [Emitter(line_format(), lambda record: None) for _ in range(ALL_BUFFERS_BYTES // 200_000 + 2)]
    for emitter in emitters:
        emitter.put(lines("x" * 100_000))
    last = asyncio.ensure_future(emitters[-1].wait_for_room())
    await asyncio.sleep(0)
    assert not last.done()
    await asyncio.sleep(30)
    assert last.done()
    assert emission_scheduler().buffered_bytes == 0


@timers_only
async def test_a_small_backlog_has_room_though_the_other_buffers_are_full() -> None:
    emitters = [Emitter(line_format(), lambda record: None) for _ in range(ALL_BUFFERS_BYTES // 200_000 + 2)]
    for emitter in emitters:
        emitter.put(lines("x" * 100_000))
    quiet = Emitter(line_format(), lambda record: None)
    quiet.put(lines("x"))
    assert not emitters[-1].has_room
    assert quiet.has_room
    await asyncio.sleep(30)


@timers_only
async def test_closing_emits_what_is_left() -> None:
    records: list[LogRecord] = []
    emitter = Emitter(line_format(), records.append)
    emitter.put(lines("one", "two"))
    await emitter.aclose()
    assert [line.text for record in records for line in record.lines] == ["one", "two"]


@timers_only
async def test_closing_takes_no_longer_than_its_bound_and_the_cursor_says_what_was_emitted() -> None:
    """As many bytes as one follower buffers, among others that write: not all of them can be emitted in time."""
    loop = asyncio.get_running_loop()
    others = [Emitter(line_format(), lambda record: None) for _ in range(20)]
    for other in others:
        other.put(lines(*["ERROR x", "x"] * 10_000))
    records: list[LogRecord] = []
    emitter = Emitter(line_format(prefix=False), records.append)
    data = b"".join(b"2026-11-21T09:00:%02d.%09dZ \x01 line %d\n" % (n // 100, n % 100, n) for n in range(6000))
    emitter.put(LineReader("base").feed(data))
    before = loop.time()
    await emitter.aclose()
    assert loop.time() - before <= FLUSH_TIMEOUT + 0.1
    shown = [line.text for record in records for line in record.lines if line.position is not None]
    assert 0 < len(shown) < 6000
    assert (
        records[-1].text
        == f"(kpo-async: {6000 - len(shown)} more lines were read and not shown: there was no time left)"
    )
    rest = LineReader("base", emitter.cursor)
    since = data.index(emitter.cursor.since.removesuffix("Z").encode())
    assert shown + [line.text for line in rest.feed(data[since:])] == [f"\x01 line {n}" for n in range(6000)]
    for other in others:
        await other.aclose()


@timers_only
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


@timers_only
async def test_an_error_of_the_sink_is_raised_by_the_next_put() -> None:
    def sink(record: LogRecord) -> None:
        raise OSError("the disk is full")

    emitter = Emitter(line_format(), sink)
    emitter.put(lines("one"))
    await settle()
    with pytest.raises(OSError, match="the disk is full"):
        emitter.put(lines("two"))


@timers_only
async def test_a_log_that_falls_behind_says_so_now_and_then_and_when_it_has_caught_up() -> None:
    loop = asyncio.get_running_loop()
    texts: list[tuple[float, str]] = []
    others = [Emitter(line_format(), lambda record: None) for _ in range(20)]
    emitter = Emitter(
        line_format(),
        lambda record: texts.extend((loop.time(), line.text) for line in record.lines),
        lag_of=lambda timestamp: 42.0,
    )
    end = loop.time() + 200
    while loop.time() < end:
        for each in (emitter, *others):
            if each.has_room:
                each.put(lines(*["x" * 100] * 1000))
        await asyncio.sleep(0.1)
    for each in (emitter, *others):
        await each.wait_until_empty()
    said = [(at, text) for at, text in texts if "kpo-async" in text]
    assert [text for _, text in said][-1] == "(kpo-async: this log is up to date again)"
    behind = said[:-1]
    assert 2 <= len(behind) <= 200 / LAG_SAID_EVERY + 1
    assert all(
        text == "(kpo-async: this log is 42 s behind: more is written than Airflow's log takes)" for _, text in behind
    )


@timers_only
async def test_a_record_in_the_emitters_buffer_counts_once() -> None:
    emitter = Emitter(line_format(), lambda record: None)
    emitter.put(lines("a", "b" * 50_000, "\x01"))
    await emitter.wait_until_empty()
    assert emitter.backlog == emission_scheduler().buffered_bytes == emission_scheduler().buffered_pieces == 0
    assert emitter.cursor == Cursor()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.floats(0, 0.3)), max_size=30))
def test_the_lines_of_each_container_stay_in_order(puts: list[tuple[int, int, float]]) -> None:
    @timers_only
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
            await emitter.aclose()
        for which, texts in enumerate(expected):
            shown = [line.text for record in records for line in record.lines if line.container == str(which)]
            assert shown == texts
        assert scheduler.buffered_bytes == 0

    run()
