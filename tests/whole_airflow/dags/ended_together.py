"""Pods that end at the same moment, and tasks that the triggerer ends."""

from __future__ import annotations

from airflow.sdk import Param, dag

from kpo_async.operators.pod import KubernetesPodOperator

WAIT = "while [ $(date +%s) -lt {{ params.until }} ]; do sleep 0.2; done; echo 7 > /airflow/xcom/return.json"
PODS = 6


@dag(schedule=None, params={"until": Param(0, type="integer", description="seconds since the epoch")})
def ended_together() -> None:
    KubernetesPodOperator.partial(
        task_id="end",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        do_xcom_push=True,
        deferrable=True,
        end_from_trigger=True,
    ).expand(arguments=[[WAIT] for _ in range(PODS)])


ended_together()
