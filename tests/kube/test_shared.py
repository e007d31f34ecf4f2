"""Values, calls and clients that the tasks of one event loop share."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from pathlib import Path

import pytest

from kpo_async.exceptions import ConfigError
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, aclose_all, connect
from kpo_async.kube.shared import LINGER, PerLoop, SharedPerLoop, SingleFlight
from tests.kube.auth.kubeconfigs import kubeconfig, write
from tests.kube.scripted_server import ok, scripted


def test_each_loop_has_one_value_and_a_closed_loop_has_none() -> None:
    values: PerLoop[object] = PerLoop(object)

    async def twice() -> object:
        assert values.get() is values.get()
        return values.get()

    first = asyncio.run(twice())
    assert asyncio.run(twice()) is not first
    assert len(list(values)) == 1


class Calls:
    """Counts its calls; each takes a second."""

    def __init__(self, **options: float) -> None:
        self.flights: SingleFlight[str, int] = SingleFlight("test", **options)
        self.count = 0
        self.failure: Exception | None = None

    async def call(self) -> int:
        self.count += 1
        await asyncio.sleep(1)
        if self.failure is not None:
            raise self.failure
        return self.count

    def ask(self, key: str = "a") -> asyncio.Task[int]:
        return asyncio.create_task(self.flights.run(key, self.call))


@pytest.mark.virtual_time
async def test_tasks_that_ask_at_the_same_time_share_one_call_though_the_first_is_cancelled() -> None:
    calls = Calls()
    first, *others = [calls.ask() for _ in range(5)]
    await asyncio.sleep(0.5)
    first.cancel()
    assert await asyncio.gather(*others) == [1, 1, 1, 1]
    assert await asyncio.gather(calls.ask(), calls.ask("b")) == [3, 3]


@pytest.mark.virtual_time
async def test_a_failure_reaches_every_task_that_waits_and_is_not_kept() -> None:
    calls = Calls(fresh_for=60)
    calls.failure = OSError("no")
    results = await asyncio.gather(calls.ask(), calls.ask(), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    calls.failure = None
    assert await calls.ask() == 2


@pytest.mark.virtual_time
async def test_a_result_is_reused_while_it_is_fresh() -> None:
    calls = Calls(fresh_for=60)
    assert await calls.ask() == 1
    await asyncio.sleep(59)
    assert await calls.ask() == 1
    await asyncio.sleep(1)
    assert await calls.ask() == 2


@pytest.mark.virtual_time
async def test_closing_cancels_a_call_under_way() -> None:
    calls = Calls()
    asked = calls.ask()
    await asyncio.sleep(0.5)
    await calls.flights.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await calls.flights.aclose()
    assert await calls.ask() == 2


async def test_a_call_runs_in_the_context_of_no_caller() -> None:
    variables: SingleFlight[str, int] = SingleFlight("test")

    async def count() -> int:
        return len(contextvars.copy_context())

    contextvars.ContextVar("of_the_caller").set(1)
    assert await variables.run("a", count) == 0


class Closing:
    """Counts what is made and closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed: list[str] = []
        self.shared: SharedPerLoop[str, str] = SharedPerLoop(self.close)

    def make(self) -> str:
        self.made += 1
        return f"value {self.made}"

    async def close(self, value: str) -> None:
        await asyncio.sleep(0)
        self.closed.append(value)


@pytest.mark.virtual_time
async def test_a_value_outlives_its_last_user_by_a_moment() -> None:
    it = Closing()
    async with it.shared.use("a", it.make) as first, it.shared.use("a", it.make) as second:
        assert first is second
    await asyncio.sleep(LINGER - 0.1)
    async with it.shared.use("a", it.make) as third:
        assert third is first
        await asyncio.sleep(100)
        assert it.closed == []
    await asyncio.sleep(LINGER + 0.1)
    assert it.closed == ["value 1"]
    assert len(it.shared) == 0
    async with it.shared.use("a", it.make) as fourth:
        assert fourth == "value 2"
    await it.shared.aclose()


@pytest.mark.virtual_time
async def test_different_keys_have_different_values() -> None:
    it = Closing()
    async with it.shared.use("a", it.make) as first, it.shared.use("b", it.make) as second:
        assert first != second
    await it.shared.aclose()
    assert sorted(it.closed) == ["value 1", "value 2"]


async def test_closing_all_may_come_while_a_value_is_in_use() -> None:
    it = Closing()
    async with it.shared.use("a", it.make):
        await it.shared.aclose()
        assert it.closed == ["value 1"]
        async with it.shared.use("a", it.make) as again:
            assert again == "value 2"
    await it.shared.aclose()
    await it.shared.aclose()
    assert it.closed == ["value 1", "value 2"]


async def test_a_user_that_fails_or_is_cancelled_releases_the_resource() -> None:
    it = Closing()
    with pytest.raises(RuntimeError):
        async with it.shared.use("a", it.make):
            raise RuntimeError
    user = asyncio.create_task(hold(it))
    await asyncio.sleep(0.01)
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    await it.shared.aclose()
    assert it.made == 1


async def hold(it: Closing) -> None:
    async with it.shared.use("a", it.make):
        await asyncio.Event().wait()


def test_everything_closes_with_its_loop() -> None:
    it = Closing()

    async def use() -> None:
        async with it.shared.use("a", it.make):
            pass

    asyncio.run(use())
    asyncio.run(use())
    assert it.closed == ["value 1", "value 2"]
    assert len(it.shared) == 0


def test_a_loop_closed_without_shutdown_is_forgotten() -> None:
    it = Closing()

    async def use() -> None:
        async with it.shared.use("a", it.make):
            pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    asyncio.run(use())
    assert it.made == 2
    assert len(it.shared) == 0


def test_threads_have_loops_and_values_of_their_own() -> None:
    it = Closing()
    barrier = threading.Barrier(2)
    values: list[str] = []

    async def use() -> None:
        async with it.shared.use("a", it.make) as value:
            await asyncio.to_thread(barrier.wait)
            values.append(value)

    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values) == sorted(it.closed) == ["value 1", "value 2"]


@pytest.fixture
def source(tmp_path: Path) -> ClusterSource:
    return ClusterSource(config_file=write(tmp_path / "config", kubeconfig(user={"token": "one"})))


async def test_a_thousand_first_callers_make_one_client(source: ClusterSource) -> None:
    seen: set[Client] = set()
    everybody = asyncio.Barrier(1000) if hasattr(asyncio, "Barrier") else None

    async def caller() -> None:
        async with connect(source) as client:
            seen.add(client)
            if everybody:
                await everybody.wait()

    await asyncio.gather(*(caller() for _ in range(1000)))
    assert len(seen) == 1


async def test_two_sources_of_the_same_cluster_and_identity_share_a_client(
    source: ClusterSource, tmp_path: Path
) -> None:
    inline = ClusterSource(config_dict=kubeconfig(user={"token": "one"}))
    async with connect(source) as first, connect(inline) as second, connect(ClusterSource(
        config_dict=kubeconfig(user={"token": "two"}))) as other:  # fmt: skip
        assert first is second
        assert first is not other


async def test_a_changed_kubeconfig_makes_a_new_client_for_new_callers_only(source: ClusterSource) -> None:
    assert source.config_file is not None
    async with connect(source) as before:
        write(Path(source.config_file), kubeconfig(user={"token": "two"}))
        os.utime(source.config_file, (1, 1))
        async with connect(source) as after:
            assert after is not before
            assert (await after.config.credentials.open().fetch()).authorization == "Bearer two"


async def test_a_wrong_source_is_a_config_error_for_every_caller() -> None:
    async def caller() -> None:
        async with connect(ClusterSource(config_file="/no/config")):
            pytest.fail("there is no cluster")

    results = await asyncio.gather(*(caller() for _ in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {ConfigError}


@pytest.mark.virtual_time
async def test_background_work_on_a_client_is_ended_before_its_connections(tmp_path: Path) -> None:
    async with scripted(ok()) as server:
        source = ClusterSource(config_dict=kubeconfig(cluster={"server": server.url}))
        done: list[str] = []

        async def last_call() -> None:
            await client.get("pods", "x", "ns")
            done.append("called")

        async with connect(source) as client:
            client.on_close(last_call)
        await asyncio.sleep(LINGER + 1)
        assert done == ["called"]


async def test_no_context_variable_of_the_last_user_is_kept(source: ClusterSource) -> None:
    """What closes a client later must not hold a task's context, with its log handlers, until then."""
    async with connect(source):
        pass
    loop = asyncio.get_running_loop()
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    assert [len(timer._context) for timer in timers] == [0]
    await aclose_all()
