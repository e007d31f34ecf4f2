"""A task that asks Airflow for its own state, as a worker does before it creates a lost pod again."""

from __future__ import annotations

import asyncio

from airflow.sdk import dag, get_current_context, task

from kpo_async.hooks.airflow import task_state


@dag(schedule=None)
def asking() -> None:
    @task
    def own_state() -> str | None:
        return asyncio.run(task_state(get_current_context()["ti"]))

    own_state()


asking()
