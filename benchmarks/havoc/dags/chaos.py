"""Twenty pods that count, hand over a number and exit, a fifth of them with an error.

They run in every mode: in a worker, deferred, ended in the triggerer, without a worker; some survive disruptions.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from kpo_async.operators.pod import KubernetesPodOperator

PODS = 20
COUNT = """
i=0
while [ $i -lt $LINES ]; do i=$((i + 1)); echo $HOSTNAME counts $i; sleep 2; done
echo $RESULT > /airflow/xcom/return.json
exit $EXIT_CODE
"""


@dag(schedule=None, max_active_runs=100, max_active_tasks=1000, params={"lines": Param([], type="array")})
def chaos() -> None:
    for number in range(PODS):
        fails = number % 5 == 4
        KubernetesPodOperator(
            task_id=f"pod_{number}",
            image="busybox:1.36",
            cmds=["sh", "-c"],
            arguments=[COUNT],
            env_vars={
                "LINES": f"{{{{ params.lines[{number}] }}}}",
                "RESULT": f"{number + 1}{{{{ params.lines[{number}] }}}}",
                "EXIT_CODE": "3" if fails else "0",
            },
            do_xcom_push=True,
            deferrable=number % 10 != 0,
            start_from_trigger=number % 10 == 5,
            end_from_trigger=number % 2 == 1,
            retry_on_disruption=3 if number % 3 == 0 else 0,
            termination_grace_period=1,
            startup_timeout_seconds=600,
            # Only disruptions may use these up: a pod that succeeds needs one try.
            retries=0 if fails else 20,
            retry_delay=timedelta(seconds=1),
        )


chaos()
