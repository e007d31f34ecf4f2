"""One container's log through cuts, ends and refusals, against a scripted kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kpo_async.kube.client import Client
from kpo_async.logs.emitter import Emitter
from kpo_async.logs.follow import DRAIN_IDLE_TIMEOUT, IDLE_TIMEOUT, ContainerLogFollower, LogState
from kpo_async.logs.plan import line_format
from kpo_async.logs.records import LogRecord
from kpo_async.logs.stage import ContainerStage, Stage
from kpo_async.logs.stream_limit import StreamLimit
from tests.logs.kubelet import Cut, LogKubelet

pytestmark = pytest.mark.virtual_time


class RecordedLog:
    """A sink that keeps its records and can be waited for."""

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
    """A running follower, and all that it touches."""

    def __init__(self, client: Client, kubelet: LogKubelet, *, limit: StreamLimit | None = None) -> None:
        self.kubelet, self.log = kubelet, kubelet.log()
        self.stage, self.shown = ContainerStage(), RecordedLog()
        self.emitter = Emitter(line_format(), self.shown)
        self.follower = ContainerLogFollower(
            client, "pod", "ns", "base", stage=self.stage, emitter=self.emitter, limit=limit
        )
        self.task = asyncio.create_task(self.follower.run())

    async def drained(self) -> list[str]:
        await self.task
        await self.emitter.aclose()
        return self.shown.lines

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.emitter.aclose()


@asynccontextmanager
async def following(kubelet: LogKubelet | None = None) -> AsyncIterator[Following]:
    kubelet = kubelet or LogKubelet()
    async with kubelet.serving() as client:
        followed = Following(client, kubelet)
        try:
            yield followed
        finally:
            await followed.close()


async def test_lines_are_shown_while_the_container_runs_with_a_single_request() -> None:
    async with following() as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("one")
        await followed.shown.until("one")
        followed.log.write("two")
        await followed.shown.until("two")
        followed.log.write("three")
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == ["one", "two", "three"]
        assert followed.follower.state is LogState.COMPLETE
        assert len(followed.kubelet.asked) == 1


async def test_the_log_is_not_requested_before_the_container_has_started() -> None:
    async with following() as followed:
        await asyncio.sleep(60)
        assert followed.kubelet.asked == []


async def test_the_log_of_a_container_that_never_ran_is_not_requested() -> None:
    async with following() as followed:
        followed.stage.rise_to(Stage.NEVER_RAN)
        assert await followed.drained() == []
        assert followed.follower.state is LogState.COMPLETE
        assert followed.kubelet.asked == []


async def test_the_log_of_a_container_that_ended_long_ago_is_read_at_once() -> None:
    async with following() as followed:
        followed.log.write("one", "two")
        followed.log.finish("no line end")
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == ["one", "two", "no line end"]
        assert [asked.get("follow") for asked in followed.kubelet.asked] == [None]


@pytest.mark.parametrize("how", ["abort", "close"])
@pytest.mark.parametrize("size", [1, 10, 100, 1000])
async def test_cuts_neither_lose_nor_repeat_a_line(how: str, size: int) -> None:
    kubelet = LogKubelet()
    kubelet.cuts.extend(Cut(after, how) for after in range(0, 20 * size, size + 7))
    expected = [f"line {n}" for n in range(300)]
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        for start in range(0, 300, 30):
            followed.log.write(*expected[start : start + 30])
            await followed.shown.until(expected[start + 29])
        followed.log.finish("end")
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == [*expected, "end"]
        assert followed.follower.state is LogState.COMPLETE


@pytest.mark.parametrize("known", [True, False], ids=["ended before", "ends meanwhile"])
async def test_after_a_cut_a_clean_end_is_believed_only_once_nothing_more_comes(known: bool) -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(20, "abort"))
    kubelet.cuts.append(Cut(1000, "close"))
    async with following(kubelet) as followed:
        followed.log.write(*(f"line {n:04}" for n in range(100)))
        followed.log.finish()
        followed.stage.rise_to(Stage.ENDED if known else Stage.RUNNING)
        if not known:
            await followed.shown.until("line 0010")
            followed.stage.rise_to(Stage.ENDED)
        assert len(await followed.drained()) == 100


async def test_the_status_may_trail_the_end_of_the_log() -> None:
    async with following() as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("one")
        followed.log.finish("two")
        await asyncio.sleep(2)
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == ["one", "two"]
        assert len(followed.kubelet.asked) == 1


async def test_a_line_is_not_shown_in_halves_when_a_stream_is_cut_in_it() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(35, "close"))
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("a long line")
        await followed.shown.until("a long line")
        assert followed.shown.lines == ["a long line"]


async def test_a_stream_that_hangs_after_the_container_has_ended_is_replaced() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(70, "hang"))
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write(*(f"line {n:04}" for n in range(10)))
        await followed.shown.until("line 0000")
        followed.log.finish()
        ended_at = asyncio.get_running_loop().time()
        followed.stage.rise_to(Stage.ENDED)
        assert len(await followed.drained()) == 10
        assert asyncio.get_running_loop().time() - ended_at < DRAIN_IDLE_TIMEOUT + 2


async def test_a_stream_that_is_silent_for_long_is_opened_again() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(70, "hang"))
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write(*(f"line {n:04}" for n in range(10)))
        await followed.shown.until("line 0009")
        first, second = followed.kubelet.asked_at
        assert IDLE_TIMEOUT <= second - first < IDLE_TIMEOUT + 2


async def test_a_log_that_the_kubelet_does_not_have_yet_is_requested_again() -> None:
    kubelet = LogKubelet()
    kubelet.refusals.extend([400, 400, 500, 429])
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("one")
        await followed.shown.until("one")
        assert followed.shown.lines == ["one"]


@pytest.mark.parametrize("code", [403, 404])
async def test_a_log_that_must_not_be_read_ends_with_a_note_and_no_error(code: int) -> None:
    kubelet = LogKubelet()
    kubelet.refusals.append(code)
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        (note,) = await followed.drained()
        assert "cannot be read: get pods/log" in note
        assert followed.follower.state is not LogState.COMPLETE


async def test_a_rest_that_cannot_be_read_is_given_up_with_a_note() -> None:
    kubelet = LogKubelet()
    kubelet.refusals.extend([500] * 100)
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.ENDED)
        (note,) = await followed.drained()
        assert "cannot be read" in note
        assert asyncio.get_running_loop().time() < 60


async def test_a_rest_is_read_as_soon_as_the_api_server_answers_again_however_long_that_takes() -> None:
    kubelet = LogKubelet()
    kubelet.log().write("one")
    kubelet.log().finish()
    kubelet.cuts.extend(Cut(0, "abort") for _ in range(20))
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.ENDED)
        assert await followed.drained() == ["one"]
        assert asyncio.get_running_loop().time() > 300


async def test_a_rotated_log_goes_on_after_a_note() -> None:
    kubelet = LogKubelet()
    kubelet.cuts.append(Cut(200, "abort"))
    async with following(kubelet) as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("a", "b", "c")
        await followed.shown.until("c")
        followed.log.rotate()
        followed.log.step = 10**9
        followed.log.write("d" * 200)
        await followed.shown.until("d" * 200)
        notes = [line for line in followed.shown.lines if "rotated" in line]
        assert len(notes) == 1


async def test_a_log_that_is_not_wanted_any_more_is_left_at_once() -> None:
    async with following() as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("one")
        await followed.shown.until("one")
        followed.stage.rise_to(Stage.UNWANTED)
        assert await followed.drained() == ["one"]
        assert followed.follower.state is not LogState.COMPLETE


async def test_a_cancelled_follower_has_shown_what_it_read_and_closes_the_connection() -> None:
    async with following() as followed:
        followed.stage.rise_to(Stage.RUNNING)
        followed.log.write("one")
        await followed.shown.until("one")
        await followed.close()
        await asyncio.sleep(1)
        assert followed.kubelet.open == 0


async def test_more_logs_than_streams_take_turns_and_none_starves() -> None:
    kubelet = LogKubelet()
    limit = StreamLimit(2, quantum=5.0)
    async with kubelet.serving() as client:
        many = [Following(client, kubelet, limit=limit) for _ in range(6)]
        try:
            for followed in many:
                followed.stage.rise_to(Stage.RUNNING)
            kubelet.log().write("first")
            for followed in many:
                await followed.shown.until("first")
            assert asyncio.get_running_loop().time() <= 6 * 5.0
            kubelet.log().write("second")
            for followed in many:
                await followed.shown.until("second")
            kubelet.log().finish()
            for followed in many:
                followed.stage.rise_to(Stage.ENDED)
            assert [await followed.drained() for followed in many] == [["first", "second"]] * 6
            assert kubelet.most_open == 2
        finally:
            for followed in many:
                await followed.close()
