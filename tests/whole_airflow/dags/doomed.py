"""A pod that prints a line and fails."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None)
def doomed() -> None:
    KubernetesPodOperator(
        task_id="fail",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        arguments=["echo last words; exit 3"],
        deferrable=True,
    )


doomed()
