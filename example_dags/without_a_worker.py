"""Fan out without any worker: the triggerer creates the pods, follows them and ends their tasks."""

from __future__ import annotations

from airflow.sdk import dag, task

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None, tags=["kpo-async"])
def without_a_worker() -> None:
    cubes = KubernetesPodOperator.partial(
        task_id="cube",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        arguments=["echo $((NUMBER * NUMBER * NUMBER)) > /airflow/xcom/return.json"],
        do_xcom_push=True,
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
    ).expand(env_vars=[{"NUMBER": str(number)} for number in range(1, 6)])

    @task
    def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    add_up(cubes.output)


without_a_worker()
