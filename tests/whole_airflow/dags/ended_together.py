"""Pods that end at the same moment, half a minute or more after their start, and tasks that the triggerer ends."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator

UNTIL_THE_MINUTE_IS_FULL = """
left=$(( 60 - $(date +%-S) ))
[ $left -ge 30 ] || left=$(( left + 60 ))
sleep $left
echo 7 > /airflow/xcom/return.json
"""


@dag(schedule=None)
def ended_together() -> None:
    KubernetesPodOperator.partial(
        task_id="end",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        do_xcom_push=True,
        deferrable=True,
        end_from_trigger=True,
    ).expand(arguments=[[UNTIL_THE_MINUTE_IS_FULL] for _ in range(10)])


ended_together()
