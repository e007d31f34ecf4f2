"""Pods that end at the same moment, and tasks that the triggerer ends."""

from __future__ import annotations

from airflow.sdk import Param, dag

from kpo_async.operators.pod import KubernetesPodOperator

WAIT = "until [ -e /signals/end ]; do sleep 0.2; done; echo 7 > /airflow/xcom/return.json"
PODS = 6


@dag(schedule=None, params={"folder": Param("", type="string", description="where a file `end` ends the pods")})
def ended_together() -> None:
    KubernetesPodOperator.partial(
        task_id="end",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        do_xcom_push=True,
        deferrable=True,
        end_from_trigger=True,
        volumes=[{"name": "signals", "hostPath": {"path": "{{ params.folder }}"}}],
        volume_mounts=[{"name": "signals", "mountPath": "/signals"}],
    ).expand(arguments=[[WAIT] for _ in range(PODS)])


ended_together()
