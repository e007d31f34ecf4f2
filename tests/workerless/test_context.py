"""Templates see the same task and run in a triggerer as on a worker, and what is rendered has the same types."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, task

from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.workerless.start import PodStart
from tests.airflow_versions import starts_in_triggerer
from tests.workerless.triggerer import Deferred, Supervisor

pytestmark = starts_in_triggerer
ON_WORKER = {
    "task.owner": "jane",
    "task.retries": "3",
    "task.pool_slots": "2",
    "task.doc_md": "my doc",
    "task.task_id": "group.task",
    "task.label": "task",
    "task.dag_id": "dag",
    "task.dag.tags": "{'etl'}",
    "task.params.n": "7",
    "task.upstream_task_ids": "{'numbers'}",
    "task.task_group.group_id": "group",
    "task.trigger_rule": "TriggerRule.ALL_DONE",
    "task.image": "busybox",
    "task.execution_timeout": "None",
    "dag_run.run_type": "DagRunType.MANUAL",
    "dag_run.state": "DagRunState.RUNNING",
    "dag_run.run_type == 'manual'": "True",
}
"""What an operator and a run show in templates on a worker of Airflow 3.3.2."""


def deferred(cluster: LocalCluster, *, mapped: bool, **parameters: Any) -> Deferred:
    """A task of a group, with attributes of Airflow's own."""
    given = {
        "task_id": "task",
        "image": "busybox",
        "namespace": "default",
        "kubernetes_conn_id": None,
        "config_file": str(cluster.kubeconfig),
        "retries": 3,
        "pool_slots": 2,
        "trigger_rule": "all_done",
        "doc_md": "my doc",
        "params": {"n": 7},
        "deferrable": True,
        "start_from_trigger": True,
        **parameters,
    }
    with DAG("dag", schedule=None, tags=["etl"], default_args={"owner": "jane"}) as dag:

        @task
        def numbers() -> list[int]:
            return [1, 2]

        before = numbers()
        with TaskGroup("group"):
            if mapped:
                before >> KubernetesPodOperator.partial(**given).expand(hostname=["host"])
            else:
                before >> KubernetesPodOperator(**given)
    return Deferred.of(dag, "group.task")


async def manifest(task: Deferred, *, mapped: bool) -> Any:
    trigger = task.trigger(map_index=0 if mapped else -1)
    return (await PodStart(trigger.arguments, trigger.task_instance, None)._prepare())[2]


@pytest.mark.parametrize("mapped", [False, True])
async def test_templates_see_what_a_worker_shows_them(
    local_cluster: LocalCluster, supervisor: Supervisor, mapped: bool
) -> None:
    env = {f"V{number}": f"{{{{ {template} }}}}" for number, template in enumerate(ON_WORKER)}
    found = await manifest(deferred(local_cluster, mapped=mapped, env_vars=env), mapped=mapped)
    shown = [variable["value"] for variable in found["spec"]["containers"][0]["env"]]
    assert dict(zip(ON_WORKER, shown, strict=True)) == ON_WORKER


@pytest.mark.parametrize("mapped", [False, True])
async def test_a_task_may_ask_for_native_objects_itself(
    local_cluster: LocalCluster, supervisor: Supervisor, mapped: bool
) -> None:
    task = deferred(
        local_cluster, mapped=mapped, render_template_as_native_obj=True, arguments="{{ ['a', task.owner] }}"
    )
    found = await manifest(task, mapped=mapped)
    assert found["spec"]["containers"][0]["args"] == ["a", "jane"]
