"""The limits on the pods that a triggerer runs at once: order, scopes, and what a new triggerer finds running."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping

import pytest

from kpo_async.exceptions import ConfigError
from kpo_async.hooks import settings
from kpo_async.workerless.places import SETTLED, SETTLING, Demand, Place, Places

pytestmark = pytest.mark.virtual_time
TRIGGERER, DAG, POOL = "this triggerer", "DAG 'd'", "pool 'p'"


class Tasks:
    """Tasks that want places, and those that have got them, in order."""

    def __init__(self) -> None:
        self.places = Places()
        self.running: dict[str, Place] = {}
        self.waiting: dict[str, asyncio.Task[None]] = {}

    async def want(self, name: str, demands: Mapping[str, Demand], *, weight: int = 1) -> None:
        async def run() -> None:
            self.running[name] = await self.places.take(demands, weight=weight)

        self.waiting[name] = asyncio.create_task(run(), name=name)
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self.running.pop(name).leave()
        await asyncio.sleep(0)

    async def cancel(self, name: str) -> None:
        self.waiting[name].cancel()
        await asyncio.wait([self.waiting[name]])
        await asyncio.sleep(0)


@pytest.fixture
async def tasks() -> Tasks:
    tasks = Tasks()
    await asyncio.sleep(SETTLING)
    return tasks


async def test_the_highest_weight_comes_first_and_then_the_one_that_came_first(tasks: Tasks) -> None:
    one = {TRIGGERER: Demand(1)}
    for name, weight in {"first": 1, "a": 1, "b": 5, "c": 1, "d": 5}.items():
        await tasks.want(name, one, weight=weight)
    order = []
    while tasks.running:
        [name] = tasks.running
        order.append(name)
        await tasks.end(name)
    assert order == ["first", "b", "d", "a", "c"]


async def test_a_task_needs_a_place_of_each_of_its_scopes_and_holds_up_no_task_of_others(tasks: Tasks) -> None:
    limits = {TRIGGERER: Demand(3), DAG: Demand(1)}
    await tasks.want("in the DAG", limits)
    await tasks.want("waits for the DAG", limits, weight=9)
    await tasks.want("elsewhere", {TRIGGERER: Demand(3)})
    assert set(tasks.running) == {"in the DAG", "elsewhere"}
    await tasks.end("in the DAG")
    assert set(tasks.running) == {"waits for the DAG", "elsewhere"}


async def test_a_task_of_many_slots_is_not_overtaken_by_lesser_ones(tasks: Tasks) -> None:
    await tasks.want("small", {POOL: Demand(3)})
    await tasks.want("large", {POOL: Demand(3, places=3)}, weight=2)
    await tasks.want("late", {POOL: Demand(3)})
    assert set(tasks.running) == {"small"}
    await tasks.end("small")
    assert set(tasks.running) == {"large"}
    await tasks.end("large")
    assert set(tasks.running) == {"late"}


async def test_a_task_that_is_ended_while_it_waits_gives_way(tasks: Tasks) -> None:
    await tasks.want("small", {POOL: Demand(3)})
    await tasks.want("large", {POOL: Demand(3, places=3)}, weight=2)
    await tasks.want("late", {POOL: Demand(3)})
    await tasks.cancel("large")
    assert set(tasks.running) == {"small", "late"}


async def test_a_place_whose_task_is_ended_in_the_moment_it_gets_it_is_free(tasks: Tasks) -> None:
    one = {TRIGGERER: Demand(1)}
    for name in ("first", "ended", "next"):
        await tasks.want(name, one)
    tasks.running.pop("first").leave()
    await tasks.cancel("ended")
    assert set(tasks.running) == {"next"}


async def test_a_task_says_what_it_waits_for(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    for number in range(501):
        await tasks.want(str(number), {TRIGGERER: Demand(500)})
    assert caplog.messages == ["Waiting for a place: 500 of 500 pods of this triggerer run"]
    await tasks.cancel("500")


async def test_a_new_triggerer_counts_what_runs_before_it_starts_more() -> None:
    """It is given running and waiting tasks in no order, here over 20 s."""
    tasks, two = Tasks(), {TRIGGERER: Demand(2)}
    await tasks.want("waited before", two)
    for name in ("runs", "runs too"):
        await asyncio.sleep(SETTLING - 1)
        tasks.running[name] = await tasks.places.take(two, at_once=True)
    await asyncio.sleep(60)
    assert set(tasks.running) == {"runs", "runs too"}
    await tasks.end("runs")
    assert set(tasks.running) == {"runs too", "waited before"}


async def test_a_new_triggerer_does_not_count_for_ever() -> None:
    tasks = Tasks()
    await tasks.want("waits", {TRIGGERER: Demand(1000)})
    for number in itertools.count():
        await asyncio.sleep(1)
        if "waits" in tasks.running:
            break
        tasks.running[str(number)] = await tasks.places.take({TRIGGERER: Demand(1000)}, at_once=True)
    assert number == pytest.approx(SETTLED, abs=2)


async def test_limits_are_the_options_and_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in {
        "MAX_PODS": "500",
        "MAX_PODS_PER_NAMESPACE": "100",
        "MAX_PODS_PER_DAG": "50",
        "START_FROM_TRIGGER_POOLS": "default_pool, narrow:16, *:8",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__KPO_ASYNC__{option}", value)
    monkeypatch.setenv("AIRFLOW_CONN_THEIRS", '{"conn_type": "kubernetes", "extra": {"max_pods": 7}}')

    async def demands(pool: str, slots: int = 1, conn_id: str | None = None) -> dict[str, Demand]:
        return await Places().demands(namespace="n", conn_id=conn_id, dag_id="d", pool=pool, pool_slots=slots)

    assert await demands("default_pool", conn_id="theirs") == {
        "this triggerer": Demand(500),
        "namespace 'n'": Demand(100),
        "DAG 'd'": Demand(50),
        "connection 'theirs'": Demand(7),
    }
    assert (await demands("narrow", 3))["pool 'narrow'"] == Demand(16, 3)
    assert (await demands("other", 30))["pool 'other'"] == Demand(8, 8)


@pytest.mark.parametrize("given", ["narrow:", "narrow:x", "narrow:0"])
def test_a_limit_of_a_pool_is_a_number(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__START_FROM_TRIGGER_POOLS", given)
    with pytest.raises(ConfigError, match="each alone or with a limit"):
        settings.pools_of_triggerer()
