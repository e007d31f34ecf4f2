"""One DAG, two clusters: each task names the connection of its own."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None, tags=["kpo-async"])
def several_clusters() -> None:
    # Connections of type `kubernetes`. Worker and triggerer resolve them by their ids.
    tasks = [
        KubernetesPodOperator(
            task_id=f"on_{conn_id}",
            kubernetes_conn_id=conn_id,
            image="busybox:1.36",
            cmds=["sh", "-c", "echo '\"done\"' > /airflow/xcom/return.json"],
            do_xcom_push=True,
            deferrable=True,
        )
        for conn_id in ("kubernetes_default", "research")
    ]
    tasks[0] >> tasks[1]


several_clusters()
