"""A user ends a deferred task: what becomes of the pod, when Airflow's own runner calls the trigger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner  # noqa: F401 - imported before blocking calls are errors

from kpo_async import lifecycle
from kpo_async.hooks.airflow import TRIGGERS_ARE_KILLED
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod_task import OnFinishAction, OnKillAction, PodTask
from tests.factories import eventually, identity, manifest, owner, pod_exists, pod_task
from tests.triggers.triggerer import Supervisor, Triggerer, supervised


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    with supervised(monkeypatch, Supervisor()) as supervisor:
        yield supervisor


class Deferred:
    """A deferred task and its pod."""

    def __init__(self, cluster: LocalCluster, client: Client, task: TaskIdentity, pod: Json, **fields: object) -> None:
        self.client = client
        self.pod = pod
        self.handle = PodHandle.of(client, pod)
        self.pod_task: PodTask = pod_task(pod, str(cluster.kubeconfig), **fields)
        self.triggerer = Triggerer(self.pod_task, task)

    async def runs(self) -> bool:
        return await pod_exists(self.client, self.pod)

    async def is_gone(self) -> bool:
        return not await self.runs()

    async def has_ended(self) -> bool:
        found = await self.handle.get()
        return found is not None and found["status"].get("phase") == "Failed"


Defer = Callable[..., Awaitable[Deferred]]


@pytest.fixture
def defer(local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor) -> Defer:
    async def defer(script: str = "sleep 1000", **fields: object) -> Deferred:
        task = identity()
        pod = await lifecycle.ensure_pod(local_client, manifest(task, script), owner(task))
        deferred = Deferred(local_cluster, local_client, task, pod, **fields)
        await eventually(supervisor.was_asked)  # as soon as a process's first trigger runs
        return deferred

    return defer


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", None, "scheduled", "queued", "running"])
async def test_a_task_that_its_user_ended_or_cleared_loses_its_pod(
    defer: Defer, supervisor: Supervisor, state: str | None
) -> None:
    deferred = await defer()
    supervisor.state = state
    await deferred.triggerer.cancel_until_it_has_ended()
    await eventually(deferred.is_gone)


async def test_a_trigger_that_moves_to_another_triggerer_leaves_its_pod(defer: Defer, supervisor: Supervisor) -> None:
    deferred = await defer()
    await deferred.triggerer.cancel_until_it_has_ended()
    assert len(supervisor.asked) == 2
    assert await deferred.runs()


@pytest.mark.parametrize(
    "state",
    [
        "deferred",
        pytest.param(
            "failed",
            marks=pytest.mark.skipif(
                not TRIGGERS_ARE_KILLED, reason="before 3.3 the pod of a task that has ended goes with its trigger"
            ),
        ),
    ],
)
async def test_a_triggerer_that_stops_leaves_its_pods(defer: Defer, supervisor: Supervisor, state: str) -> None:
    deferred = await defer()
    supervisor.state = state
    await deferred.triggerer.stop()
    assert await deferred.runs()


async def test_on_kill_action_keep_pod_keeps_it(defer: Defer, supervisor: Supervisor) -> None:
    deferred = await defer(on_kill_action=OnKillAction.KEEP_POD)
    supervisor.state = "failed"
    await deferred.triggerer.cancel_until_it_has_ended(every=5)
    assert await deferred.runs()


async def test_airflow_answers_late_and_cancels_again_and_again(defer: Defer, supervisor: Supervisor) -> None:
    deferred = await defer()
    supervisor.state, supervisor.delay = "failed", 1.0
    await deferred.triggerer.cancel_until_it_has_ended(every=0.05)
    assert await deferred.runs()
    await eventually(deferred.is_gone)


async def test_the_api_server_is_away_and_airflow_cancels_again_and_again(
    local_cluster: LocalCluster, defer: Defer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpo_async.kube.client.RETRY_BUDGET", 0.5)
    deferred = await defer()
    supervisor.state = "failed"
    async with local_cluster.faults.refuse():
        await deferred.triggerer.cancel_until_it_has_ended()
        await asyncio.sleep(2)
    await eventually(deferred.is_gone)


async def test_without_the_right_to_delete_a_warning_names_the_pod(
    local_cluster: LocalCluster, defer: Defer, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    deferred = await defer()
    supervisor.state = "failed"
    with local_cluster.faults.forbid(verb="delete", resource="pods"):
        await deferred.triggerer.cancel_until_it_has_ended(every=5)
    assert await deferred.runs()
    assert f"Pod default/{deferred.pod_task.name} may be left" in caplog.text


async def test_a_pod_that_another_try_has_taken_over_is_left(defer: Defer, supervisor: Supervisor) -> None:
    deferred = await defer()
    supervisor.state = "running"
    await deferred.handle.patch({"metadata": {"annotations": {"kpo-async/owner": "another/2"}}})
    await deferred.triggerer.cancel_until_it_has_ended(every=5)
    assert await deferred.runs()


@pytest.mark.parametrize(
    ("action", "state", "kept"),
    [
        pytest.param(OnFinishAction.DELETE_POD, "running", True, id="a worker reads from it"),
        pytest.param(OnFinishAction.DELETE_POD, "queued", True, id="a worker will read from it"),
        pytest.param(OnFinishAction.DELETE_POD, "failed", False, id="delete_pod"),
        pytest.param(OnFinishAction.KEEP_POD, "failed", True, id="keep_pod"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "failed", True, id="delete_succeeded_pod"),
    ],
)
async def test_a_thawed_triggerer_leaves_an_ended_pod_to_on_finish_action(
    local_cluster: LocalCluster,
    defer: Defer,
    supervisor: Supervisor,
    action: OnFinishAction,
    state: str,
    kept: bool,
) -> None:
    """Another triggerer has fired the event meanwhile; this one still waits, as its watch has shown it nothing."""
    with local_cluster.faults.half_open(verb="watch list", resource="pods"):
        deferred = await defer("exit 3", on_finish_action=action)
        await eventually(deferred.has_ended)
        supervisor.state = state
        await deferred.triggerer.cancel_until_it_has_ended(every=5)
    assert await deferred.runs() is kept


async def test_the_log_of_the_task_says_that_its_pod_was_deleted(
    defer: Defer, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    deferred = await defer()
    supervisor.state = "failed"
    await deferred.triggerer.cancel_until_it_has_ended(every=5)
    assert f"Deleted pod default/{deferred.pod_task.name}: its task was killed" in caplog.messages


async def test_a_process_makes_its_first_request_to_airflow_once(defer: Defer, supervisor: Supervisor) -> None:
    deferred = [await defer() for _ in range(3)]
    await asyncio.sleep(0.1)
    assert len(supervisor.asked) == 1
    for one in deferred:
        await one.triggerer.stop()
