"""One DAG for each way to run Airflow: every kind of task, in pods that say a line and leave a result.

Its environment says how the clusters are named: KPO_KUBECONFIG and KPO_CONTEXT for the tutorial's parameters, absent
where Airflow runs in the cluster; KPO_NAMESPACE; KPO_EXECUTORS, the names of the executors that there are.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

from airflow.sdk import DAG

from kpo_async.decorators.kubernetes import kubernetes_task
from kpo_async.operators.pod import KubernetesPodOperator

NAMESPACE = os.environ["KPO_NAMESPACE"]
KUBECONFIG, CONTEXT = os.environ.get("KPO_KUBECONFIG"), os.environ.get("KPO_CONTEXT")
EXECUTORS = [name for name in os.environ.get("KPO_EXECUTORS", "").split(",") if name]
RESULT = "/airflow/xcom/return.json"
POD: dict[str, Any] = {"image": "busybox:1.36", "cmds": ["sh", "-c"]}
DEFERRED: dict[str, Any] = {**POD, "deferrable": True, "do_xcom_push": True}


def says(name: str, result: int, then: str = "true") -> list[str]:
    """The arguments of a pod that says its name and leaves a number."""
    return [f"echo this is {name}; echo {result} > {RESULT}; {then}"]


def everywhere(dag_id: str, executors: Iterator[str | None]) -> None:
    """Define the DAG; each task takes the next executor."""

    def executor() -> dict[str, Any]:
        return {"executor": next(executors)}

    with DAG(dag_id, schedule=None):
        KubernetesPodOperator(task_id="deferred", arguments=says("deferred", 1), **DEFERRED, **executor())
        KubernetesPodOperator(
            task_id="waited",
            kubernetes_conn_id="inline",
            arguments=says("waited", 2),
            **{**DEFERRED, "deferrable": False},
            **executor(),
        )

        @kubernetes_task(image="python:3.11-slim", deferrable=True, do_xcom_push=True, **executor())
        def decorated(number: int) -> int:
            print("this is decorated")
            return number + 1

        decorated(2)
        KubernetesPodOperator(
            task_id="ended", end_from_trigger=True, arguments=says("ended", 4), **DEFERRED, **executor()
        )
        KubernetesPodOperator(
            task_id="workerless",
            start_from_trigger=True,
            end_from_trigger=True,
            arguments=says("workerless", 5),
            **DEFERRED,
        )
        KubernetesPodOperator(task_id="failing", arguments=says("failing", 6, "exit 3"), **DEFERRED, **executor())
        KubernetesPodOperator.partial(task_id="mapped", **DEFERRED, **executor()).expand(
            arguments=[says(f"mapped {number}", 7 + number) for number in range(2)]
        )
        KubernetesPodOperator(
            task_id="killed",
            arguments=["trap 'exit 0' TERM; echo this is killed; sleep 600 & wait"],
            **{**DEFERRED, "do_xcom_push": False},
            **executor(),
        )
        # As in the classic tutorials.
        KubernetesPodOperator(
            task_id="classic",
            name="classic-tutorial",
            namespace=NAMESPACE,
            image="busybox:1.36",
            cmds=["echo", "this is classic"],
            labels={"foo": "bar"},
            config_file=KUBECONFIG,
            cluster_context=CONTEXT,
            in_cluster=KUBECONFIG is None,
            is_delete_operator_pod=True,
            get_logs=True,
            **executor(),
        )


everywhere("everywhere", itertools.repeat(None))
for name in EXECUTORS:
    everywhere(f"everywhere_{name}", itertools.repeat(name))
if len(EXECUTORS) > 1:
    everywhere("everywhere_mixed", itertools.cycle(EXECUTORS))
