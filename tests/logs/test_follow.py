"""One container's log through cuts, ends and refusals, against a server that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kpo_async.kube.client import Client
from kpo_async.logs.emitter import Emitter, LogRecord
from kpo_async.logs.follow import DRAIN_SILENCE, SILENCE, Follower, Lifeline
from kpo_async.logs.plan import line_format
from kpo_async.logs.stream_limit import StreamLimit
from tests.logs.kubelet import Cut, LogKubelet

pytestmark = pytest.mark.virtual_time


class Shown:
    """A sink that can be waited for."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self._changed = asyncio.Event()

    def __call__(self, record: LogRecord) -> None:
        self.records.append(record)
        self._changed.set()

    @property
    def lines(self) -> list[str]:
        return [line.text for record in self.records for line in record.lines]

    async def until(self, text: str) -> None:
        while text not in self.lines:
            self._changed.clear()
            await self._changed.wait()


class Following:
    """A follower that runs, and all that it touches."""

    def __init__(self, client: Client, kubelet: LogKubelet, *, slots: StreamLimit | None = None) -> None:
        self.kubelet, self.log = kubelet, kubelet.log()
        self.life, self.shown = Lifeline(), Shown()
        self.emitter = Emitter(line_format(), self.shown)
        self.follower = Follower(client, "pod", "ns", "base", life=self.life, emitter=self.emitter, slots=slots)
        self.task = asyncio.create_task(self.follower.run())

    async def drained(self) -> list[str]:
        await self.task
        self.emitter.close()
        return self.shown.lines

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        self.emitter.close()


@asynccontextmanager
async def following(kubelet: LogKubelet | None = None) -> AsyncIterator[Following]:
    kubelet = kubelet or LogKubelet()
    async with kubelet.serving() as client:
        followed = Following(client, kubelet)
        try:
            yield followed
        finally:
            await followed.close()


async def test_lines_are_shown_while_the_container_runs_and_one_request_is_all_it_takes() -> None:
    async with following() as followed:
        followed.life.tell(started=True)
        followed.log.write("one")
        await followed.shown.until("one")
        followed.log.write("two")
        await followed.shown.until("two")
        followed.log.write("three")
        followed.log.finish()
        followed.life.tell(ended=True)
        assert await followed.drained() == ["one", "two", "three"]
        assert followed.follower.complete
        assert len(followed.kubelet.asked) == 1


async def test_nothing_is_asked_before_the_container_has_started() -> None:
    async with following() as followed:
        await asyncio.sleep(60)
        assert followed.kubelet.asked == []


async def test_a_container_that_never_ran_has_no_log_to_ask_for() -> None:
    async with following() as followed:
        followed.life.tell(ended=True)
        assert await followed.drained() == []
        assert followed.follower.complete
        assert followed.kubelet.asked == []


async def test_the_log_of_a_container_that_ended_long_ago_is_read_at_once() -> None:
    async with following() as followed:
        followed.log.write("one", "two")
        followed.log.finish("no line end")
        followed.life.tell(started=True, ended=True)
        assert await followed.drained() == ["one", "two", "no line end"]
        assert [asked.get("follow") for asked in followed.kubelet.asked] == [None]


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("size", [1, 10, 100, 1000])
async def test_cuts_neither_lose_nor_repeat_a_line(how: str, size: int) -> None:
    kubelet = LogKubelet()
    kubelet.cuts.extend(Cut(after, how) for after in range(0, 20 * size, size + 7))
    expected = [f"line {n}" for n in range(300)]
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        for start in range(0, 300, 30):
            followed.log.write(*expected[start : start + 30])
            await followed.shown.until(expected[start + 29])
        followed.log.finish("end")
        followed.life.tell(ended=True)
        assert await followed.drained() == [*expected, "end"]
        assert followed.follower.complete


@pytest.mark.parametrize("known", [True, False], ids=["ended before", "ends meanwhile"])
async def test_after_a_cut_a_clean_end_is_not_believed_before_nothing_more_comes(known: bool) -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(20, "abort"))
    kubelet.cuts.append(Cut(1000, "close"))
    async with following(kubelet) as followed:
        followed.log.write(*(f"line {n:04}" for n in range(100)))
        followed.log.finish()
        followed.life.tell(started=True, ended=known)
        if not known:
            await followed.shown.until("line 0010")
            followed.life.tell(ended=True)
        assert len(await followed.drained()) == 100


async def test_the_status_may_trail_the_end_of_the_log() -> None:
    async with following() as followed:
        followed.life.tell(started=True)
        followed.log.write("one")
        followed.log.finish("two")
        await asyncio.sleep(2)
        followed.life.tell(ended=True)
        assert await followed.drained() == ["one", "two"]
        assert len(followed.kubelet.asked) == 1


async def test_a_line_is_not_shown_in_halves_when_a_stream_is_cut_in_it() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(35, "close"))
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        followed.log.write("a long line")
        await followed.shown.until("a long line")
        assert followed.shown.lines == ["a long line"]


async def test_a_stream_that_hangs_after_the_container_has_ended_is_left_for_one_that_ends() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(70, "hang"))
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        followed.log.write(*(f"line {n:04}" for n in range(10)))
        await followed.shown.until("line 0000")
        followed.log.finish()
        told_at = asyncio.get_running_loop().time()
        followed.life.tell(ended=True)
        assert len(await followed.drained()) == 10
        assert asyncio.get_running_loop().time() - told_at < DRAIN_SILENCE + 2


async def test_a_stream_that_is_silent_for_long_is_opened_anew() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(70, "hang"))
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        followed.log.write(*(f"line {n:04}" for n in range(10)))
        await followed.shown.until("line 0009")
        first, second = followed.kubelet.asked_at
        assert SILENCE <= second - first < SILENCE + 2


async def test_a_container_that_the_kubelet_still_calls_waiting_is_asked_about_again() -> None:
    kubelet = LogKubelet()
    kubelet.refusals.extend([400, 400, 500, 429])
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        followed.log.write("one")
        await followed.shown.until("one")
        assert followed.shown.lines == ["one"]


@pytest.mark.parametrize("code", [403, 404])
async def test_a_log_that_may_not_be_read_is_noted_in_the_log_and_fails_nothing(code: int) -> None:
    kubelet = LogKubelet()
    kubelet.refusals.append(code)
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        (note,) = await followed.drained()
        assert "cannot be read: get pods/log" in note
        assert not followed.follower.complete


async def test_an_end_that_cannot_be_read_is_given_up_with_a_note() -> None:
    kubelet = LogKubelet()
    kubelet.refusals.extend([500] * 100)
    async with following(kubelet) as followed:
        followed.life.tell(started=True, ended=True)
        (note,) = await followed.drained()
        assert "cannot be read" in note
        assert asyncio.get_running_loop().time() < 60


async def test_a_rotated_log_goes_on_with_a_mark() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(200, "abort"))
    async with following(kubelet) as followed:
        followed.life.tell(started=True)
        followed.log.write("a", "b", "c")
        await followed.shown.until("c")
        followed.log.entries[:] = followed.log.entries[:0]
        followed.log.step = 10**9
        followed.log.write("d" * 200)
        await followed.shown.until("d" * 200)
        marks = [line for line in followed.shown.lines if "rotated" in line]
        assert len(marks) == 1


async def test_what_is_not_wanted_any_more_is_not_waited_for() -> None:
    async with following() as followed:
        followed.life.tell(started=True)
        followed.log.write("one")
        await followed.shown.until("one")
        followed.life.tell(stopped=True)
        assert await followed.drained() == ["one"]
        assert not followed.follower.complete


async def test_cancellation_shows_what_was_read_and_closes_the_connection() -> None:
    async with following() as followed:
        followed.life.tell(started=True)
        followed.log.write("one")
        await followed.shown.until("one")
        await followed.close()
        await asyncio.sleep(1)
        assert followed.kubelet.open == 0


async def test_more_logs_than_slots_take_turns_and_none_is_starved() -> None:
    kubelet = LogKubelet()
    slots = StreamLimit(2, quantum=5.0)
    async with kubelet.serving() as client:
        many = [Following(client, kubelet, slots=slots) for _ in range(6)]
        try:
            for followed in many:
                followed.life.tell(started=True)
            kubelet.log().write("first")
            for followed in many:
                await followed.shown.until("first")
            assert asyncio.get_running_loop().time() <= 6 * 5.0
            kubelet.log().write("second")
            for followed in many:
                await followed.shown.until("second")
            kubelet.log().finish()
            for followed in many:
                followed.life.tell(ended=True)
            assert [await followed.drained() for followed in many] == [["first", "second"]] * 6
            assert kubelet.most_open == 2
        finally:
            for followed in many:
                await followed.close()
