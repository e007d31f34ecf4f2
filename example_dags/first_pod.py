"""A first pod: it prints hello, and hands a value to the next task."""

from __future__ import annotations

from airflow.sdk import dag, task

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None, tags=["kpo-async"])
def first_pod() -> None:
    hello = KubernetesPodOperator(
        task_id="hello",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        # What a container writes to this file is the task's result. It is JSON.
        arguments=["echo hello from $HOSTNAME; echo '{\"answer\": 42}' > /airflow/xcom/return.json"],
        do_xcom_push=True,
        # While the pod runs, this task holds no worker slot: the triggerer waits for all of them at once.
        deferrable=True,
    )

    @task
    def show(result: dict[str, int]) -> int:
        print("The pod answered", result["answer"])
        return result["answer"]

    show(hello.output)


first_pod()
