"""Events of pods: how many requests they take, and that every pod gets its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.lifecycle import events
from kpo_async.lifecycle.events import events_of
from kpo_async.localcluster import LocalCluster
from kpo_async.pod_task import Outcome, OutcomeStatus
from tests.factories import NO_CALLBACKS, identity, manifest, owner, pod_task

SIMULATED = {"sim/log-lines": "0"}


def lists_of_events(cluster: LocalCluster) -> int:
    return sum(n for of, n in cluster.requests.started.items() if (of.verb, of.resource) == ("LIST", "events"))


def add_event(cluster: LocalCluster, pod: Json, message: str) -> None:
    metadata = pod["metadata"]
    reference = {"kind": "Pod", "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    name = f"{metadata['name']}.{message}".replace(" ", "-")
    event = {"metadata": {"name": name, "namespace": metadata["namespace"]}, "involvedObject": reference}
    cluster.client.create("events", {**event, "type": "Warning", "reason": "NodeNotReady", "message": message})


async def create_simulated(client: Client, count: int) -> list[Json]:
    """Create so many pods, each of another DAG run."""
    tasks = [replace(identity(), run_id=f"run-{number}") for number in range(count)]
    return [
        await lifecycle.ensure_pod(client, manifest(task, "", annotations=SIMULATED), owner(task)) for task in tasks
    ]


async def pods(cluster: LocalCluster, client: Client, count: int) -> list[PodHandle]:
    """Return so many pods with an event each, which is about their number."""
    made = await create_simulated(client, count)
    for number, pod in enumerate(made):
        add_event(cluster, pod, f"node of {number}")
    return [PodHandle.of(client, pod) for pod in made]


async def messages(pod: PodHandle) -> set[str | None]:
    return {event.message for event in await events_of(pod) if event.reason == "NodeNotReady"}


async def test_one_pod_costs_one_list_of_its_own_events(local_cluster: LocalCluster, client: Client) -> None:
    first, _ = await pods(local_cluster, client, 2)
    assert await messages(first) == {"node of 0"}
    assert lists_of_events(local_cluster) == 1


async def test_pods_that_fail_at_once_share_a_list_and_each_gets_its_own_events(
    local_cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 10)  # so that they are on two pages
    many = await pods(local_cluster, client, 20)
    found = await asyncio.gather(*map(messages, many))
    assert found == [{f"node of {number}"} for number in range(20)]
    assert lists_of_events(local_cluster) == 2


async def test_pods_that_fail_one_after_the_other_wait_for_a_common_list(
    local_cluster: LocalCluster, client: Client
) -> None:
    many = await pods(local_cluster, client, 20)
    waiting = []
    for pod in many:
        waiting.append(asyncio.create_task(messages(pod)))
        await asyncio.sleep(0.01)
    assert await asyncio.gather(*waiting) == [{f"node of {number}"} for number in range(20)]
    assert lists_of_events(local_cluster) == 2


async def test_a_caller_that_is_cancelled_does_not_take_the_events_from_others(
    local_cluster: LocalCluster, client: Client
) -> None:
    first, second = await pods(local_cluster, client, 2)
    asking = [asyncio.create_task(messages(pod)) for pod in (first, second)]
    for _ in range(3):  # so that both wait for the answer
        await asyncio.sleep(0)
    asking[0].cancel()
    assert await asking[1] == {"node of 1"}
    assert asking[0].cancelled()


async def test_without_the_right_to_list_events_there_are_none(local_cluster: LocalCluster, client: Client) -> None:
    first, second = await pods(local_cluster, client, 2)
    with local_cluster.faults.forbid(verb="list", resource="events"):
        assert await asyncio.gather(messages(first), messages(second)) == [set(), set()]


async def test_500_pods_lost_with_their_node_cost_at_most_5_lists_of_events(
    local_cluster: LocalCluster, client: Client
) -> None:
    made = await create_simulated(client, 500)
    waits = [asyncio.create_task(lifecycle.wait(client, pod_task(pod, logs=None), NO_CALLBACKS)) for pod in made]
    await asyncio.sleep(1)
    for pod in made:
        add_event(local_cluster, pod, "its node is not ready")
        metadata = pod["metadata"]
        local_cluster.client.delete("pods", metadata["namespace"], metadata["name"], grace_seconds=0)
    outcomes: list[Outcome] = await asyncio.gather(*waits)
    assert {outcome.status for outcome in outcomes} == {OutcomeStatus.LOST}
    assert 1 <= lists_of_events(local_cluster) <= 5
