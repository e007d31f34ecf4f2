"""What becomes of a pod whose task is over, on the embedded cluster."""

from __future__ import annotations

import logging

import pytest

from kpo_async import lifecycle
from kpo_async.kube.client import Client
from kpo_async.lifecycle import TaskRecord
from kpo_async.localcluster import LocalCluster
from kpo_async.pod_task import OnFinishAction, OnKillAction
from tests.factories import NO_CALLBACKS, create_pod, pod_exists, pod_task

DELETE, KEEP = OnKillAction.DELETE_POD, OnKillAction.KEEP_POD


@pytest.mark.parametrize(
    ("action", "script", "kept"),
    [
        pytest.param(OnFinishAction.DELETE_POD, "exit 1", False, id="delete_pod"),
        pytest.param(OnFinishAction.KEEP_POD, "exit 0", True, id="keep_pod"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 0", False, id="delete_succeeded_pod that succeeded"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 1", True, id="delete_succeeded_pod that failed"),
        pytest.param(OnFinishAction.DELETE_ACTIVE_POD, "exit 1", True, id="delete_active_pod that has ended"),
    ],
)
@pytest.mark.parametrize("function", [lifecycle.finish, lifecycle.end], ids=["finished", "ended by its user"])
async def test_a_pod_that_has_ended_is_deleted_or_kept_as_asked(
    client: Client, action: OnFinishAction, script: str, kept: bool, function: object
) -> None:
    created = await create_pod(client, script)
    task = pod_task(created, on_finish_action=action)
    pod = lifecycle.pod_of(client, task)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    for _ in range(2):
        if function is lifecycle.end:
            await lifecycle.end(pod, task, owner=task.owner)
        else:
            await lifecycle.finish(pod, task, succeeded=outcome.succeeded)
    assert await pod_exists(client, created) is kept
    if kept:
        labels = (await client.get("pods", task.name, "default"))["metadata"]["labels"]
        assert (labels["kpo-async/done"], labels["already_checked"]) == ("true", "True")


@pytest.mark.parametrize(("action", "kept"), [(DELETE, False), (KEEP, True)], ids=["delete_pod", "keep_pod"])
@pytest.mark.parametrize("function", [lifecycle.kill, lifecycle.end])
async def test_a_pod_that_runs_is_killed_unless_it_is_to_be_kept_and_the_log_says_which(
    client: Client, action: OnKillAction, kept: bool, function: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle")
    created = await create_pod(client, "sleep 1000")
    task = pod_task(created, on_kill_action=action, on_finish_action=OnFinishAction.KEEP_POD)
    assert callable(function)
    assert await function(lifecycle.pod_of(client, task), task, owner=task.owner) is None
    assert await pod_exists(client, created) is kept
    assert caplog.messages[-1].startswith("Leaving pod default/" if kept else "Deleted pod default/")


async def test_the_record_on_a_pod_decides_as_its_task_does(client: Client) -> None:
    created = await create_pod(client, "sleep 1000")
    task, record = pod_task(created), TaskRecord.of_pod(created)
    assert record is not None
    assert await lifecycle.kill(lifecycle.pod_of(client, task), record, owner=task.owner) is None
    assert not await pod_exists(client, created)


async def test_a_pod_that_has_ended_is_not_killed(client: Client) -> None:
    created = await create_pod(client, "exit 3")
    task = pod_task(created)
    await lifecycle.wait(client, task, NO_CALLBACKS)
    state = await lifecycle.kill(lifecycle.pod_of(client, task), task, owner=task.owner)
    assert state is not None
    assert state.exit_code == 3
    assert await pod_exists(client, created)


@pytest.mark.parametrize("function", [lifecycle.kill, lifecycle.end])
async def test_a_pod_that_another_try_has_adopted_is_not_killed(client: Client, function: object) -> None:
    created = await create_pod(client, "sleep 1000")
    task = pod_task(created)
    assert callable(function)
    await function(lifecycle.pod_of(client, task), task, owner="another/2")
    assert await pod_exists(client, created)


@pytest.mark.parametrize("function", [lifecycle.kill, lifecycle.end])
async def test_a_pod_that_is_done_is_not_killed(client: Client, function: object) -> None:
    created = await create_pod(client, "sleep 1000")
    task = pod_task(created, on_finish_action=OnFinishAction.KEEP_POD)
    await lifecycle.finish(lifecycle.pod_of(client, task), task, succeeded=False)
    assert callable(function)
    await function(lifecycle.pod_of(client, task), task, owner=task.owner)
    assert await pod_exists(client, created)


async def test_a_pod_that_may_not_be_looked_at_is_killed(local_cluster: LocalCluster, client: Client) -> None:
    created = await create_pod(client, "sleep 1000")
    task = pod_task(created)
    with local_cluster.faults.forbid(verb="get", resource="pods"):
        await lifecycle.end(lifecycle.pod_of(client, task), task, owner=task.owner)
    assert not await pod_exists(client, created)


async def test_another_pod_of_the_same_name_is_not_touched(client: Client) -> None:
    created = await create_pod(client, "sleep 1000")
    stale = pod_task(created, uid="00000000-0000-0000-0000-000000000000")
    pod = lifecycle.pod_of(client, stale)
    await lifecycle.end(pod, stale, owner=stale.owner)
    await lifecycle.finish(pod, stale, succeeded=False)
    assert await pod_exists(client, created)
