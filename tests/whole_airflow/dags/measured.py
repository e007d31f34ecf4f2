"""Pods of every kind that metrics tell apart: one that runs, one that never starts, one that no worker starts."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator

POD = {"image": "busybox:1.36", "cmds": ["sh", "-c"], "deferrable": True}


@dag(schedule=None)
def measured() -> None:
    KubernetesPodOperator(task_id="runs", arguments=["for i in $(seq 12); do echo $i; sleep 1; done"], **POD)
    KubernetesPodOperator(
        task_id="never_starts",
        arguments=["true"],
        node_selector={"no-node": "has-this"},
        startup_timeout_seconds=15,
        **POD,
    )
    KubernetesPodOperator(
        task_id="without_worker", arguments=["true"], start_from_trigger=True, end_from_trigger=True, **POD
    )


measured()
