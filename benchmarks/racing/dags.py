"""The DAGs of `makespan.py`. Each has a file of its own in the DAG folder, because every task parses its file anew.

A timer's tasks do what a pod's do, without a pod: they are the least that Airflow needs for as many tasks of the same
kind, its floor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent


class Timer(BaseTrigger):
    """Fires after some seconds, and ends the task if it is to."""

    def __init__(self, seconds: float, ends: bool) -> None:
        super().__init__()
        self.seconds = seconds
        self.ends = ends

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "racing.dags.Timer", {"seconds": self.seconds, "ends": self.ends}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.seconds)
        yield TaskSuccessEvent() if self.ends else TriggerEvent({})


class TimerOperator(BaseOperator):
    """Defers to a `Timer`."""

    def __init__(self, *, arguments: list[str], ends: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = float(arguments[0])
        self.end_from_trigger = ends

    def execute(self, context: Any) -> None:
        self.defer(trigger=Timer(self.seconds, self.end_from_trigger), method_name="resume")

    def resume(self, context: Any, event: Any) -> None:
        pass


def timers(dag_id: str, *, tasks: int, mapped: bool, seconds: float, workerless: bool, **arguments: Any) -> DAG:
    """Return a DAG of timers. `workerless`: they start in the triggerer."""

    class Operator(TimerOperator):
        start_from_trigger = workerless
        start_trigger_args = StartTriggerArgs(
            trigger_cls="racing.dags.Timer",
            trigger_kwargs={"seconds": seconds, "ends": True},
            next_method="resume",
        )

    return _fan_out(dag_id, Operator, tasks, mapped, [str(seconds)], arguments)


def pods(dag_id: str, *, tasks: int, mapped: bool, seconds: float, module: str, **arguments: Any) -> DAG:
    """Return a DAG of simulated pods that the operator of `module` creates."""
    given = {
        "image": "busybox:1.36",
        "startup_timeout_seconds": 600,
        "deferrable": True,
        # A simulated pod has no log worth reading.
        "get_logs": False,
        # One cluster simulates a pod that asks for it. In another such pods have nodes of their own.
        "annotations": {"sim/run-for": f"{seconds}s"},
        "node_selector": {"type": "kwok"},
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
        **arguments,
    }
    operator = import_module(module).KubernetesPodOperator
    return _fan_out(dag_id, operator, tasks, mapped, ["true"], given)


def _fan_out(dag_id: str, operator: Any, tasks: int, mapped: bool, words: list[str], given: dict[str, Any]) -> DAG:
    with DAG(dag_id, schedule=None, max_active_tasks=tasks) as dag:
        if mapped:
            operator.partial(task_id="task", **given).expand(arguments=[words] * tasks)
        else:
            for number in range(tasks):
                operator(task_id=f"task_{number}", arguments=words, **given)
    return dag
