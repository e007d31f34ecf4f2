"""Pods that run for a while and count: long enough for something to happen to whoever looks after them."""

from __future__ import annotations

from airflow.sdk import Param, dag, get_current_context, task

from kpo_async.operators.pod import KubernetesPodOperator

COUNT = """
i=0
while [ $i -lt $SECONDS_TO_RUN ]; do i=$((i + 1)); echo count $i; sleep 1; done
echo $i > /airflow/xcom/return.json
"""


@dag(schedule=None, params={"pods": Param(4, type="integer"), "seconds": Param(30, type="integer")})
def patient() -> None:
    @task
    def environments() -> list[dict[str, str]]:
        params = get_current_context()["params"]
        return [{"SECONDS_TO_RUN": str(params["seconds"]), "NUMBER": str(n)} for n in range(params["pods"])]

    KubernetesPodOperator.partial(
        task_id="count",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        arguments=[COUNT],
        do_xcom_push=True,
        deferrable=True,
        termination_grace_period=1,
    ).expand(env_vars=environments())


patient()
