"""One pod for each way in which a triggerer follows one. They count for a while and hand over how far they came."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag

from kpo_async.operators.pod import KubernetesPodOperator

COUNT = """
i=0
while [ $i -lt $SECONDS_TO_RUN ]; do i=$((i + 1)); echo count $i; sleep 1; done
echo $i > /airflow/xcom/return.json
"""
MODES: dict[str, dict[str, Any]] = {
    "deferred": {},
    "ended_there": {"end_from_trigger": True},
    "started_there": {"end_from_trigger": True, "start_from_trigger": True},
}


@dag(schedule=None, params={"seconds": Param(30, type="integer")})
def modes() -> None:
    for task_id, parameters in MODES.items():
        KubernetesPodOperator(
            task_id=task_id,
            image="busybox:1.36",
            cmds=["sh", "-c"],
            arguments=[COUNT],
            env_vars={"SECONDS_TO_RUN": "{{ params.seconds }}"},
            do_xcom_push=True,
            deferrable=True,
            termination_grace_period=1,
            **parameters,
        )


modes()
