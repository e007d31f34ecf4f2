"""A log that is rotated while it is read slowly: nothing is lost that could be read, and every gap is said."""

from __future__ import annotations

import asyncio
import logging
import re
import sys

import pytest

from kpo_async.logs import channel
from kpo_async.logs.follow import DRAIN_IDLE_TIMEOUT, HELD_BACK, LogState
from kpo_async.logs.lines import LOG_FILE_BYTES, MAX_LINE, Cursor, LineReader
from kpo_async.logs.scheduler import UNREAD_BYTES
from kpo_async.logs.stage import Stage
from tests.logs.kubelet import Cut, LogKubelet
from tests.logs.supervisor import Supervisor
from tests.logs.test_follow import Following, following
from tests.logs.test_lines import stamp, texts

pytestmark = [
    pytest.mark.virtual_time,
    pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not say what is unread"),
]

LINE = "x" * 1000
GAP = re.compile(r"\(kpo-async: lines written (between|after) .* may be missing: .*\)")


@pytest.fixture(autouse=True)
def look_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look costs a virtual-time test some real time."""
    monkeypatch.setattr(channel, "POLL_INTERVAL", 1.0)


def numbered(first: int, end: int) -> list[str]:
    return [f"{number} {LINE}" for number in range(first, end)]


def own_lines(followed: Following) -> list[str]:
    """What is shown of the container's own lines."""
    return [line.text for record in followed.shown.records for line in record.lines if line.position is not None]


def gaps(followed: Following) -> list[str]:
    return [text for text in followed.shown.lines if GAP.fullmatch(text)]


def hold_back() -> None:
    """Let the supervisor have enough to read, so that no further record is emitted until it does."""
    logging.getLogger("a task").info("x" * (UNREAD_BYTES + 1000))


async def test_time_spent_waiting_for_the_supervisor_is_not_the_servers_silence(supervisor: Supervisor) -> None:
    async with following() as followed:
        followed.log.write(*numbered(0, 3000))
        followed.stage.rise_to(Stage.RUNNING)
        hold_back()
        await asyncio.sleep(1)
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        await asyncio.sleep(10 * DRAIN_IDLE_TIMEOUT)
        assert len(followed.kubelet.asked) == 1
        supervisor.read()
        assert await followed.drained() == numbered(0, 3000)
        assert [asked.get("follow") for asked in followed.kubelet.asked] == ["true", None]
        assert followed.follower.state is LogState.COMPLETE


async def test_a_log_read_slowly_is_read_to_its_end_though_the_kubelet_ends_the_stream_at_the_rotated_file(
    supervisor: Supervisor,
) -> None:
    async with following() as followed:
        followed.log.write(*numbered(0, 3000))
        followed.stage.rise_to(Stage.RUNNING)
        hold_back()
        await asyncio.sleep(1)
        followed.log.rotate()
        followed.log.write(*numbered(3000, 3500))
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        supervisor.read()
        await followed.drained()
        assert own_lines(followed) == numbered(0, 3500)
        # Whether more was written before the newest file begins cannot be known.
        assert len(gaps(followed)) == 1


async def test_lines_that_were_rotated_away_are_a_gap_with_its_size_and_time(supervisor: Supervisor) -> None:
    async with following() as followed:
        followed.log.write(*numbered(0, 3000))
        followed.stage.rise_to(Stage.RUNNING)
        hold_back()
        await asyncio.sleep(1)
        followed.log.rotate()
        followed.log.write(*numbered(3000, 3500))
        followed.log.rotate()
        followed.log.write(*numbered(3500, 3600))
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        supervisor.read()
        await followed.drained()
        assert own_lines(followed) == numbered(0, 3000) + numbered(3500, 3600)
        (gap,) = gaps(followed)
        since, until = stamp(3000 * followed.log.step), stamp(3501 * followed.log.step)
        assert f"between {since} and {until} (50.100 s)" in gap


async def test_an_answer_that_ends_before_the_lines_shown_before_have_come_is_a_gap() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(10_000, "abort"))
    async with following(kubelet) as followed:
        followed.log.write(*numbered(0, 100))
        followed.stage.rise_to(Stage.RUNNING)
        await followed.shown.until(numbered(0, 1)[0])
        followed.log.rotate()
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        *shown, gap = await followed.drained()
        assert shown == numbered(0, len(shown))
        assert GAP.fullmatch(gap)
        assert f"after {stamp(len(shown) * followed.log.step)}" in gap
        assert followed.follower.state is LogState.COMPLETE


async def test_an_answer_that_was_cut_before_the_lines_shown_before_have_come_is_no_gap() -> None:
    """A kubelet that restarts ends streams early, and cleanly."""
    kubelet = LogKubelet()
    kubelet.cuts.extend([Cut(10_000, "abort"), Cut(2000, "close")])
    async with following(kubelet) as followed:
        followed.log.write(*numbered(0, 100))
        followed.stage.rise_to(Stage.RUNNING)
        await followed.shown.until(numbered(0, 1)[0])
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == numbered(0, 100)


async def test_a_stream_that_was_held_back_for_long_says_where_a_file_may_have_been_skipped(
    supervisor: Supervisor,
) -> None:
    """A kubelet that could not send for two rotations goes on with the newest file, in the same stream."""
    async with following() as followed:
        followed.log.write(*numbered(0, 3000))
        followed.stage.rise_to(Stage.RUNNING)
        hold_back()
        await asyncio.sleep(HELD_BACK + 1)
        followed.log.rotate()
        followed.log.write(*numbered(3000, 3100))
        followed.log.rotate()
        followed.log.write(*numbered(3100, 3200))
        supervisor.read()
        await followed.shown.until(numbered(3199, 3200)[0])
        assert own_lines(followed) == numbered(0, 3000) + numbered(3100, 3200)
        (gap,) = gaps(followed)
        assert "(10.100 s)" in gap
        assert "rotated twice" in gap


def test_no_part_of_a_long_line_is_lost_silently_when_the_log_is_rotated_within_it() -> None:
    """The rest of the line begins the newest file, with a timestamp of its own."""
    half = LOG_FILE_BYTES + 1234
    first = LineReader("base")
    begun = first.feed(f"{stamp(10**9)} ".encode() + b"a" * half)
    resumed = LineReader("base", first.cursor)
    gap, *rest = resumed.feed(f"{stamp(4 * 10**9)} ".encode() + b"b" * half + b"\n")
    assert "(3.000 s) may be missing" in gap.text
    assert sum(line.text.count("b") for line in rest) == half
    assert sum(line.text.count("a") for line in begun) >= half - MAX_LINE


def test_a_very_long_line_of_a_stream_that_was_held_back_is_doubted() -> None:
    for size, notes in [(LOG_FILE_BYTES // 2, 0), (LOG_FILE_BYTES + 1, 1)]:
        reader = LineReader("base")
        reader.suspicious_pause = 1.0
        found = reader.feed(f"{stamp(10**9)} ".encode() + b"a" * size + b"\n")
        assert [line.position is None for line in found].count(True) == notes


def test_lines_shown_before_of_which_some_were_rotated_away_are_no_gap() -> None:
    lines = [f"{stamp(n * 10**8)} line {n}\n".encode() for n in range(20)]
    reader = LineReader("base")
    reader.feed(b"".join(lines[:15]))
    assert reader.cursor.since < stamp(12 * 10**8)
    resumed = LineReader("base", reader.cursor)
    assert texts(resumed.feed(b"".join(lines[12:]))) == [f"line {n}" for n in range(15, 20)]
    assert resumed.cursor == Cursor(since=stamp(0).replace(".000000000", ""), seen=8, last=stamp(19 * 10**8))
