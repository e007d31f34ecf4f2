"""Pods of a cluster that only a connection in Airflow's database tells of."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None)
def stored_connection() -> None:
    for task_id, deferrable in (("in_the_triggerer", True), ("in_a_worker", False)):
        KubernetesPodOperator(
            task_id=task_id, image="busybox:1.36", cmds=["true"], kubernetes_conn_id="stored", deferrable=deferrable
        )


stored_connection()
