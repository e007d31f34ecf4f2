"""A triggerer creates a pod again that the cluster took away, and Airflow's own runner calls its trigger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner  # noqa: F401 - imported before blocking calls are errors

from kpo_async import lifecycle
from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.kube.client import Client
from kpo_async.kube.retry import Backoff
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.names import TaskIdentity, name_of_attempt
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask
from tests.factories import eventually, identity, manifest, owner, pod_task
from tests.triggers.triggerer import Supervisor, Triggerer, supervised

ATTEMPT = {"name": "ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['kpo-async/attempt']"}}}


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr("kpo_async.lifecycle.attempts.BACKOFF", Backoff(first=0.1, cap=0.1))
    with supervised(monkeypatch, Supervisor()) as supervisor:
        yield supervisor


class Deferred:
    """A deferred task, whose pods a triggerer follows from what Airflow's database has about the first one."""

    def __init__(self, client: Client, task: TaskIdentity, row: PodTask) -> None:
        self.client, self.identity, self.row = client, task, row

    def triggerer(self) -> Triggerer:
        return Triggerer(self.row, self.identity)

    def name(self, attempt: int) -> str:
        return self.row.name if attempt == 1 else name_of_attempt(self.row.name, self.identity, attempt)

    async def names(self) -> list[str]:
        pods = (await self.client.list("pods", "default"))["items"]
        return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    async def runs(self, attempt: int) -> None:
        async def running() -> bool:
            pods = (await self.client.list("pods", "default"))["items"]
            running = [p["metadata"]["name"] for p in pods if p["status"].get("phase") == "Running"]
            return self.name(attempt) in running

        await eventually(running)

    async def delete(self, attempt: int) -> None:
        await self.runs(attempt)
        await self.client.delete("pods", self.name(attempt), "default")


async def deferred(cluster: LocalCluster, client: Client, script: str, **fields: Any) -> Deferred:
    task = identity()
    pod = await lifecycle.ensure_pod(client, manifest(task, script, pod_runtime_info_envs=[ATTEMPT]), owner(task))
    options = {"identity": task, "retry_on_disruption": 3, "deferred_at": time.time() - 100, **fields}
    return Deferred(client, task, pod_task(pod, str(cluster.kubeconfig), **options))


def event_of(triggerer: Triggerer) -> Any:
    [(_, event, *_)] = triggerer.runner.events
    return event.payload


async def test_the_event_and_the_xcom_name_the_last_pod_also_after_a_restart(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    task = await deferred(local_cluster, local_client, '[ "$ATTEMPT" = 3 ] || sleep 1000')
    first = task.triggerer()
    await task.delete(1)
    await task.runs(2)
    assert supervisor.xcoms["pod_name"] == task.name(2)
    await first.stop()
    second = task.triggerer()
    await task.delete(2)
    await asyncio.wait_for(second.task, 20)
    event = event_of(second)
    assert Outcome.from_dict(event["outcome"]).status is OutcomeStatus.SUCCEEDED
    assert event["name"] == supervisor.xcoms["pod_name"] == task.name(3)
    assert (event["pod_attempt"], event["pod_disruptions"]) == (3, 2)
    assert await task.names() == [task.name(3)]


async def test_a_user_who_ends_the_task_ends_the_pod_of_its_last_attempt(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    task = await deferred(local_cluster, local_client, "sleep 1000")
    triggerer = task.triggerer()
    await task.delete(1)
    await task.runs(2)
    supervisor.state = "failed"
    await triggerer.cancel_until_it_has_ended(every=5)
    assert await task.names() == []


async def test_after_a_restart_a_user_who_ends_the_task_ends_the_pod_of_its_last_attempt(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    task = await deferred(local_cluster, local_client, "sleep 1000")
    first = task.triggerer()
    await task.delete(1)
    await task.runs(2)
    await first.stop()
    del supervisor.xcoms["pod_name"]
    second = task.triggerer()

    async def follows_it() -> bool:
        return supervisor.xcoms.get("pod_name") == task.name(2)

    await eventually(follows_it)
    supervisor.state = "failed"
    await second.cancel_until_it_has_ended(every=5)
    assert await task.names() == []


async def test_a_pod_that_a_users_kill_has_deleted_is_not_created_again(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    """The reconciler deletes it, before Airflow has cancelled the trigger."""
    task = await deferred(local_cluster, local_client, "sleep 1000")
    triggerer = task.triggerer()
    await task.runs(1)
    supervisor.state = "success"
    await task.delete(1)
    await asyncio.wait_for(triggerer.task, 20)
    assert await task.names() == []


async def test_a_task_that_the_triggerer_ends_is_not_run_again_before_its_end_is_stored(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    """A triggerer is killed after it has seen the pod that succeeded, which was the second attempt."""
    task = await deferred(local_cluster, local_client, '[ "$ATTEMPT" ] || sleep 1000', end_from_trigger=True)
    first = task.triggerer()
    await task.delete(1)
    for triggerer in (first, task.triggerer()):
        await asyncio.wait_for(triggerer.task, 20)
        assert type(triggerer.runner.events[0][1]).__name__ == "TaskSuccessEvent"
        assert await task.names() == [task.name(2)]
    supervisor.state = "success"

    async def gone() -> bool:
        return await task.names() == []

    await eventually(gone)


class Sweeper(KubernetesPodOperatorCallback):
    """A user's class that is called when the pod is gone."""

    @staticmethod
    async def on_pod_cleanup(**kwargs: object) -> None:
        pass


async def test_a_task_that_the_triggerer_ends_is_not_run_again_after_its_verdict_was_saved(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    """A triggerer is killed after it has deleted the pod that succeeded, which was the second attempt."""
    caplog.set_level(logging.INFO, logger="kpo_async")
    script, callbacks = '[ "$ATTEMPT" ] || sleep 1000', [f"{__name__}:Sweeper"]
    task = await deferred(local_cluster, local_client, script, end_from_trigger=True, callbacks=callbacks)
    first = task.triggerer()
    await task.delete(1)
    await asyncio.wait_for(first.task, 20)
    assert type(first.runner.events[0][1]).__name__ == "TaskSuccessEvent"
    assert await task.names() == []
    second = task.triggerer()
    await asyncio.wait_for(second.task, 20)
    assert type(second.runner.events[0][1]).__name__ == "TaskSuccessEvent"
    assert await task.names() == []
    assert "using the verdict that it saved" in caplog.text


async def test_a_worker_is_resumed_where_the_triggerer_may_not_create_pods_although_it_ends_the_task(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    task = await deferred(local_cluster, local_client, "sleep 1000", end_from_trigger=True)
    triggerer = task.triggerer()
    await task.runs(1)
    with local_cluster.faults.forbid(verb="create", resource="pods"):
        await task.delete(1)
        await asyncio.wait_for(triggerer.task, 20)
    event = event_of(triggerer)
    assert Outcome.from_dict(event["outcome"]).disrupted
    assert (event["pod_attempt"], event["pod_disruptions"]) == (1, 0)
