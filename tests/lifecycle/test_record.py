"""What a pod says of its task to processes that do not know the task."""

from __future__ import annotations

import pytest

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.lifecycle import TaskRecord
from kpo_async.pod_task import OnFinishAction, OnKillAction
from tests.factories import identity, manifest, owner

NEW_ACTION = '{"dag_id": "d", "task_id": "t", "run_id": "r", "try_number": 1, "on_finish_action": "new"}'
FIELDS = {
    "max_tries": 3,
    "base_container": "main",
    "deferrable": True,
    "on_finish_action": OnFinishAction.KEEP_POD,
    "on_kill_action": OnKillAction.KEEP_POD,
    "grace_period": 0,
}


async def test_a_created_pod_carries_its_installation_and_its_record(client: Client) -> None:
    task = identity()
    spec = manifest(task, "true", base_container_name="main")
    pod = await lifecycle.ensure_pod(client, spec, owner(task, installation="team-a", **FIELDS))
    assert pod["metadata"]["labels"]["kpo-async/installation"] == "team-a"
    assert TaskRecord.of_pod(pod) == TaskRecord("dag", "task", "run", 1, **FIELDS)


async def test_an_adopted_pod_carries_the_record_of_the_try_that_adopted_it(client: Client) -> None:
    first, second = identity(1), identity(2)
    await lifecycle.ensure_pod(client, manifest(first, "sleep 1000"), owner(first))
    pod = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000"), owner(second, deferrable=True))
    assert TaskRecord.of_pod(pod) == TaskRecord("dag", "task", "run", 2, deferrable=True)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({}, id="no annotations"),
        pytest.param({"annotations": None}, id="null"),
        pytest.param({"annotations": {"kpo-async/task": "{"}}, id="not JSON"),
        pytest.param({"annotations": {"kpo-async/task": '{"dag_id": "d"}'}}, id="fields are missing"),
        pytest.param({"annotations": {"kpo-async/task": NEW_ACTION}}, id="an action that this version does not know"),
    ],
)
def test_a_pod_without_a_record_that_can_be_read_has_none(metadata: Json) -> None:
    assert TaskRecord.of_pod({"metadata": metadata}) is None


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = '{"dag_id":"d","task_id":"t","run_id":"r","try_number":1,"new":1}'
    found = TaskRecord.of_pod({"metadata": {"annotations": {"kpo-async/task": newer}}})
    assert found == TaskRecord("d", "t", "r", 1)
