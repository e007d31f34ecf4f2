"""A pod that the cluster takes away, or whose memory runs out, is created again within the same try."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.retry import Backoff
from kpo_async.lifecycle import attempts
from kpo_async.localcluster import LocalCluster
from kpo_async.pod.again import MemoryGrowth
from kpo_async.pod.names import TaskIdentity, name_of_attempt
from kpo_async.pod_task import OnFinishAction, Outcome, OutcomeStatus, PodTask
from tests.factories import NO_CALLBACKS, eventually, identity, manifest, owner, pod_exists, pod_task

FIRST_SLEEPS = '[ "$ATTEMPT" ] || sleep 1000; echo attempt "$ATTEMPT"'
ATTEMPT = {"name": "ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['kpo-async/attempt']"}}}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF", Backoff(first=0.1, cap=0.1))
    monkeypatch.setattr(attempts, "CREATE_BACKOFF", Backoff(first=0.1, cap=0.1))


@dataclass
class Airflow:
    """What Airflow says of the try, and what it is told."""

    alive: bool = True
    pods: list[str] = field(default_factory=list)

    async def is_alive(self) -> bool:
        return self.alive

    async def creates(self, manifest: Json) -> None:
        """Nothing to do: no process is killed meanwhile."""

    async def created(self, task: PodTask, pod: Json) -> None:
        self.pods.append(task.name)


class Run:
    """One try and its first pod, followed as a trigger does."""

    def __init__(self, client: Client, task: TaskIdentity, pod: Json, **fields: Any) -> None:
        self.client, self.identity, self.pod, self.airflow = client, task, pod, Airflow()
        self.task = pod_task(pod, **{"identity": task, "retry_on_disruption": 3, "deferred_at": time.time(), **fields})

    def follow(self) -> asyncio.Task[tuple[PodTask, Outcome]]:
        return asyncio.create_task(lifecycle.see_through(self.client, self.task, NO_CALLBACKS, self.airflow))

    async def pod_of_attempt(self, attempt: int) -> Json:
        name = self.task.name if attempt == 1 else name_of_attempt(self.task.name, self.identity, attempt)

        async def runs() -> bool:
            found = (await self.client.list("pods", "default", field_selector=f"metadata.name={name}"))["items"]
            return bool(found) and found[0]["status"].get("phase") in ("Running", "Failed")

        await eventually(runs)
        return await self.client.get("pods", name, "default")

    async def pods(self) -> list[Json]:
        found: list[Json] = (await self.client.list("pods", "default"))["items"]
        return found

    async def names(self) -> list[str]:
        """Return the names of the pods that are not being deleted."""
        return [p["metadata"]["name"] for p in await self.pods() if "deletionTimestamp" not in p["metadata"]]


async def start(client: Client, script: str = FIRST_SLEEPS, parameters: Json | None = None, **fields: Any) -> Run:
    task = identity()
    wanted = manifest(task, script, **{"pod_runtime_info_envs": [ATTEMPT], **(parameters or {})})
    return Run(client, task, await lifecycle.ensure_pod(client, wanted, owner(task)), **fields)


async def evict(cluster: LocalCluster, client: Client, pod: Json) -> None:
    metadata = {"name": pod["metadata"]["name"], "namespace": "default"}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    await client.create("pods/eviction", body, "default")


async def delete(cluster: LocalCluster, client: Client, pod: Json) -> None:
    await client.delete("pods", pod["metadata"]["name"], "default")


def failed(reason: str) -> Callable[[LocalCluster, Client, Json], Awaitable[None]]:
    async def fail(cluster: LocalCluster, client: Client, pod: Json) -> None:
        """Report the pod as the kubelet does that ends it, or the node lifecycle controller."""
        latest = cluster.client.get("pods", "default", pod["metadata"]["name"])
        status = {**latest["status"], "phase": "Failed", "reason": reason, "containerStatuses": []}
        cluster.client.update_status("pods", {**latest, "status": status})

    return fail


DISRUPTIONS = [
    pytest.param(evict, "Evicted", id="evicted, as by a drain"),
    pytest.param(delete, "Deleted", id="deleted from outside"),
    pytest.param(failed("Preempting"), "Preempted", id="preempted"),
    pytest.param(failed("NodeLost"), "NodeLost", id="node lost"),
    pytest.param(failed("Shutdown"), "NodeShutdown", id="node shut down"),
    pytest.param(failed("OutOfcpu"), "Rejected", id="rejected by the node"),
    pytest.param(failed(""), "Lost", id="no container ever started"),
]


@pytest.mark.parametrize(("disrupt", "category"), DISRUPTIONS)
async def test_a_pod_that_the_cluster_took_away_is_created_again(
    local_cluster: LocalCluster,
    client: Client,
    caplog: pytest.LogCaptureFixture,
    disrupt: Callable[..., Awaitable[None]],
    category: str,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    run = await start(client)
    following = run.follow()
    first = await run.pod_of_attempt(1)
    await disrupt(local_cluster, client, first)
    task, outcome = await following
    assert (outcome.status, task.attempt, task.disruptions) == (OutcomeStatus.SUCCEEDED, 2, 1)
    assert task.name == name_of_attempt(run.task.name, run.identity, 2)
    assert run.airflow.pods == [task.name]
    second = await client.get("pods", task.name, "default")
    assert second["metadata"]["labels"]["kpo-async/attempt"] == "2"
    assert second["metadata"]["annotations"]["kpo-async/disruptions"] == "1"
    assert second["metadata"]["annotations"]["kpo-async/owner"] == run.identity.owner
    assert bool(second["spec"].get("affinity")) is (category != "Deleted")
    assert await run.names() == [task.name]
    assert any(f"Attempt 2 of 4, in 0 s: pod default/{run.task.name} was" in line for line in caplog.messages)


async def test_without_retry_on_disruption_the_task_fails_and_nothing_more_is_requested(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client, retry_on_disruption=0)
    following = run.follow()
    await delete(local_cluster, client, await run.pod_of_attempt(1))
    task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.LOST, 1)
    assert await run.names() == []


async def test_after_the_last_attempt_the_task_fails_with_its_reason(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client, "sleep 1000", retry_on_disruption=2)
    following = run.follow()
    for attempt in (1, 2, 3):
        await evict(local_cluster, client, await run.pod_of_attempt(attempt))
    task, outcome = await following
    assert (outcome.status, outcome.category, task.attempt) == (OutcomeStatus.LOST, "Evicted", 3)
    assert await run.names() == []


@pytest.mark.parametrize("script", ["true", "exit 3"])
async def test_a_program_that_has_ended_by_itself_is_never_run_again(client: Client, script: str) -> None:
    run = await start(client, script)
    task, outcome = await run.follow()
    assert (outcome.exit_code, task.attempt) == (0 if script == "true" else 3, 1)


async def test_an_image_that_cannot_be_pulled_is_no_disruption(client: Client) -> None:
    run = await start(client, parameters={"image": "No Such Image!"})
    task, outcome = await run.follow()
    assert (outcome.category, task.attempt) == ("ImagePull", 1)


async def test_a_pod_whose_task_was_ended_by_its_user_is_not_created_again(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client)
    run.airflow.alive = False
    following = run.follow()
    await delete(local_cluster, client, await run.pod_of_attempt(1))
    task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.LOST, 1)
    assert await run.names() == []


async def test_a_pod_that_may_still_run_is_deleted_before_the_next_one_is_created(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client, on_finish_action=OnFinishAction.KEEP_POD)
    following = run.follow()
    first = await run.pod_of_attempt(1)
    latest = local_cluster.client.get("pods", "default", run.task.name)
    unknown = {**latest["status"], "phase": "Unknown"}
    ready = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    local_cluster.client.update_status("pods", {**latest, "status": {**unknown, "conditions": [ready]}})
    task, _ = await following
    assert task.attempt == 2
    assert not await pod_exists(client, first)


async def test_a_lost_pod_that_is_to_be_kept_is_marked_done(local_cluster: LocalCluster, client: Client) -> None:
    run = await start(client, on_finish_action=OnFinishAction.KEEP_POD)
    following = run.follow()
    first = await run.pod_of_attempt(1)
    await failed("NodeShutdown")(local_cluster, client, first)
    task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.SUCCEEDED, 2)
    kept = await PodHandle.of(client, first).get()
    assert kept is not None
    assert kept["metadata"]["labels"]["kpo-async/done"] == "true"


async def stopped(following: asyncio.Task[Any]) -> None:
    following.cancel()
    await asyncio.wait([following])


async def test_a_triggerer_that_is_killed_during_the_pause_makes_way_for_one_that_leaves_it_to_a_worker(
    local_cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attempts, "BACKOFF", Backoff(first=1000, cap=1000))
    run = await start(client)
    following = run.follow()
    await delete(local_cluster, client, await run.pod_of_attempt(1))

    async def pauses() -> bool:
        return "Attempt 2 of 4" in caplog.text and not await run.pods()

    await eventually(pauses)
    await stopped(following)
    task, outcome = await run.follow()
    assert (outcome.status, task.attempt) == (OutcomeStatus.LOST, 1)
    assert lifecycle.cause_of_next(task, outcome) is not None
    assert await run.names() == []


async def test_a_later_triggerer_finds_the_attempt_that_runs_and_counts_on_from_it(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client, "sleep 1000", deferred_at=time.time() - 100)
    following = run.follow()
    await evict(local_cluster, client, await run.pod_of_attempt(1))
    await evict(local_cluster, client, await run.pod_of_attempt(2))
    third = await run.pod_of_attempt(3)
    await stopped(following)

    following = run.follow()  # from the trigger's row, which knows the first pod only
    await asyncio.sleep(1)
    assert await run.names() == [third["metadata"]["name"]]
    await evict(local_cluster, client, third)
    fourth = await run.pod_of_attempt(4)
    await evict(local_cluster, client, fourth)
    task, outcome = await following
    assert (outcome.status, task.attempt, task.disruptions) == (OutcomeStatus.LOST, 4, 3)


async def test_a_create_whose_answer_was_lost_makes_no_second_pod(local_cluster: LocalCluster, client: Client) -> None:
    run = await start(client, deferred_at=time.time() - 100)
    following = run.follow()
    first = await run.pod_of_attempt(1)
    with local_cluster.faults.cut(verb="create", resource="pods", times=1):
        await delete(local_cluster, client, first)
        task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.SUCCEEDED, 2)
    assert await run.names() == [task.name]


async def test_where_no_pod_may_be_created_it_is_left_to_a_worker(local_cluster: LocalCluster, client: Client) -> None:
    run = await start(client)
    following = run.follow()
    first = await run.pod_of_attempt(1)
    with local_cluster.faults.forbid(verb="create", resource="pods"):
        await delete(local_cluster, client, first)
        task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.LOST, 1)
    assert lifecycle.cause_of_next(task, outcome) is not None


async def test_the_pause_ends_with_the_tasks_time_and_no_pod_is_created_after_it(
    local_cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BACKOFF", Backoff(first=1000, cap=1000))
    run = await start(client, deadline=time.time() + 5)
    following = run.follow()
    await delete(local_cluster, client, await run.pod_of_attempt(1))
    task, _ = await asyncio.wait_for(following, 10)
    assert task.attempt == 1
    assert await run.names() == []


async def test_the_execution_timeout_counts_over_all_attempts_and_stops_the_pod(
    local_cluster: LocalCluster, client: Client
) -> None:
    run = await start(client, "sleep 1000", deadline=time.time() + 6)
    following = run.follow()
    await delete(local_cluster, client, await run.pod_of_attempt(1))
    await run.pod_of_attempt(2)
    task, outcome = await following
    assert (outcome.status, task.attempt) == (OutcomeStatus.TIMED_OUT, 2)
    assert await run.names() == []


def out_of_memory(cluster: LocalCluster, pod: Json) -> None:
    latest = cluster.client.get("pods", "default", pod["metadata"]["name"])
    end = {"exitCode": 137, "reason": "OOMKilled", "startedAt": "2026-01-01T00:00:00Z"}
    status = {"name": "base", "state": {"terminated": {**end, "finishedAt": "2026-01-01T00:00:01Z"}}}
    cluster.client.update_status(
        "pods", {**latest, "status": {**latest["status"], "phase": "Failed", "containerStatuses": [status]}}
    )


async def test_a_program_that_runs_out_of_memory_gets_more_up_to_the_limit_and_then_fails(
    local_cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    resources = {"limits": {"memory": "100Mi"}, "requests": {"memory": "50Mi"}}
    growth = MemoryGrowth(2.0, "300Mi")
    run = await start(client, "sleep 1000", {"container_resources": resources}, on_oom=growth, retry_on_disruption=0)
    following = run.follow()
    found = []
    for attempt in (1, 2, 3, 4):
        pod = await run.pod_of_attempt(attempt)
        given = pod["spec"]["containers"][0]["resources"]
        found.append((given["requests"]["memory"], given["limits"]["memory"]))
        out_of_memory(local_cluster, pod)
        if found[-1] == ("300Mi", "300Mi"):
            break
    task, outcome = await following
    assert found == [("50Mi", "100Mi"), ("100Mi", "200Mi"), ("200Mi", "300Mi"), ("300Mi", "300Mi")]
    assert (outcome.category, task.attempt, task.disruptions) == ("OOMKilled", 4, 0)
    assert any("Attempt 2, with memory 200Mi after 100Mi" in line for line in caplog.messages)
    assert any("No other attempt: on_oom gives no more memory than 300Mi" in line for line in caplog.messages)


async def test_disruptions_and_lacking_memory_are_counted_apart(local_cluster: LocalCluster, client: Client) -> None:
    resources = {"limits": {"memory": "100Mi"}}
    growth = MemoryGrowth(2.0)
    run = await start(client, "sleep 1000", {"container_resources": resources}, on_oom=growth, retry_on_disruption=1)
    following = run.follow()
    out_of_memory(local_cluster, await run.pod_of_attempt(1))
    await evict(local_cluster, client, await run.pod_of_attempt(2))
    third = await run.pod_of_attempt(3)
    assert third["spec"]["containers"][0]["resources"]["limits"]["memory"] == "200Mi"
    out_of_memory(local_cluster, third)
    await evict(local_cluster, client, await run.pod_of_attempt(4))
    task, outcome = await following
    assert (outcome.status, task.attempt, task.disruptions) == (OutcomeStatus.LOST, 4, 1)
