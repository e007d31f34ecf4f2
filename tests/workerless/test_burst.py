"""Many tasks start at once, or wait: creation is limited, survives what API servers do, and makes no second pod."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest
from airflow.triggers.base import TaskSuccessEvent

from kpo_async.kube.auth.config import REQUESTS_PER_SECOND
from kpo_async.kube.client import Client
from kpo_async.kube.retry import Backoff
from kpo_async.lifecycle import quota
from kpo_async.localcluster.cluster import LocalCluster
from tests.airflow_versions import starts_in_triggerer
from tests.factories import eventually
from tests.workerless.test_bad_input import only_one_pod
from tests.workerless.triggerer import (
    SIMULATED,
    Deferred,
    Supervisor,
    are_gone_once_stored,
    fired,
    killed,
    pods,
)

pytestmark = starts_in_triggerer


async def names_of_all_pods(cluster: LocalCluster, found: Counter[str]) -> None:
    async for event in cluster.client.watch("pods"):
        if event.type == "ADDED":
            found[event.object["metadata"]["name"]] += 1


@pytest.mark.parametrize("tasks", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_each_task_of_a_burst_gets_one_pod_while_the_api_server_stumbles(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, tasks: int
) -> None:
    deferred = Deferred(local_cluster, "", annotations=SIMULATED)
    created: Counter[str] = Counter()
    history = asyncio.create_task(names_of_all_pods(local_cluster, created), name="the history of all pods")
    faults = local_cluster.faults
    with (
        faults.fail(503, verb="create", resource="pods", times=tasks // 10),
        faults.throttle(verb="create", resource="pods", times=tasks // 20),
        faults.reset(verb="create", resource="pods", times=tasks // 20),
        faults.delay(0.05, verb="create"),
    ):
        began = asyncio.get_running_loop().time()
        events = await asyncio.gather(*(fired(deferred.trigger(f"run-{number}")) for number in range(tasks)))
    assert all(isinstance(event, TaskSuccessEvent) for event in events)
    history.cancel()
    await asyncio.wait([history])
    assert len(created) == tasks
    assert set(created.values()) == {1}
    assert asyncio.get_running_loop().time() - began > (tasks - 2 * REQUESTS_PER_SECOND) / REQUESTS_PER_SECOND
    assert len(await pods(local_client)) == tasks
    await are_gone_once_stored(local_client, supervisor)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "BACKOFF", Backoff(first=0.1, cap=0.1))
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__WAIT_FOR_QUOTA", "60")


@pytest.mark.usefixtures("impatient")
async def test_a_task_waits_in_the_triggerer_for_room_in_a_quota(
    local_cluster: LocalCluster, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    only_one_pod(local_cluster)
    deferred = Deferred(local_cluster, "", annotations=SIMULATED)
    events = await asyncio.gather(*(fired(deferred.trigger(f"run-{number}")) for number in range(3)))
    assert all(isinstance(event, TaskSuccessEvent) for event in events)
    assert any(message.startswith("Waiting for room in the quota") for message in caplog.messages)


@pytest.mark.usefixtures("impatient")
async def test_a_task_that_its_user_ends_while_it_waits_for_a_quota_starts_no_pod(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    only_one_pod(local_cluster)
    first = Deferred(local_cluster, "sleep 1000")
    trigger, running = first.start()

    async def waits() -> bool:
        return any(message.startswith("Waiting for room in the quota") for message in caplog.messages)

    async def one_runs() -> bool:
        return len(await pods(local_client)) == 1

    await eventually(one_runs)
    second, waiting = Deferred(local_cluster, "true", name="second").start("other")
    await eventually(waits)
    supervisor.state = "failed"
    await killed(second, waiting)
    await killed(trigger, running)

    async def none_is_left() -> bool:
        return not await pods(local_client)

    await eventually(none_is_left)
    await asyncio.sleep(1)
    assert await none_is_left()
