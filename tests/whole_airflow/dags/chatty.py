"""Pods that say a lot at their end."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator

LINES = 30_000


@dag(schedule=None)
def chatty() -> None:
    for end_from_trigger in (False, True):
        KubernetesPodOperator(
            task_id="ended_in_the_triggerer" if end_from_trigger else "ended_by_a_worker",
            image="busybox:1.36",
            cmds=["sh", "-c"],
            # Long after the deferral: else the event is held back anyway, for another reason.
            arguments=[f"sleep 9; seq -f 'this is line %.0f of many' {LINES}"],
            deferrable=True,
            end_from_trigger=end_from_trigger,
        )


chatty()
