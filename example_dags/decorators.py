"""Functions and commands as pods."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None, tags=["kpo-async"])
def decorators() -> None:
    # The function's source runs in the pod; its image needs Python and what the function imports.
    @task.kubernetes_async(image="python:3.11-slim", do_xcom_push=True, deferrable=True)
    def square(number: int) -> int:
        return number * number

    # The function runs in the worker, and returns the pod's command.
    @task.kubernetes_cmd_async(image="busybox:1.36", do_xcom_push=True, deferrable=True)
    def shout(number: int) -> list[str]:
        return ["sh", "-c", f"echo '\"{number}!\"' > /airflow/xcom/return.json"]

    shout(square(7))


decorators()
