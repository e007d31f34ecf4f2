"""Tasks whose connection only the worker has, or leads only the worker to a cluster."""

from __future__ import annotations

from airflow.sdk import DAG

from kpo_async.operators.pod import KubernetesPodOperator

with DAG("one_sided", schedule=None):
    for name in ("unknown", "without_file"):
        KubernetesPodOperator(
            task_id=name, kubernetes_conn_id=name, image="busybox:1.36", cmds=["sleep", "600"], deferrable=True
        )
