"""Functions as pods, in all modes: arguments, mapping, several outputs, a failure, a command."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, task

from kpo_async.decorators.kubernetes import kubernetes_task as in_a_pod
from kpo_async.decorators.kubernetes_cmd import kubernetes_cmd_task

if TYPE_CHECKING:
    from somewhere import Frame

DAG_ID = "decorated_{}"


def decorated(mode: dict[str, bool]) -> None:
    pod: dict[str, Any] = {
        "image": "python:3.11-slim",
        "do_xcom_push": True,
        "startup_timeout_seconds": 300,
        **mode,
    }

    @task
    def numbers() -> list[int]:
        return [1, 2]

    @task
    def ballast() -> str:
        """Beyond what one environment variable can carry, and what compression could save."""
        return random.Random(0).randbytes(100_000).hex()

    @in_a_pod(**pod)
    def add_up(xs: list[int], *, unit: str, frame: Frame | None = None) -> dict[str, int]:
        print("adding in", unit)
        return {"total": sum(xs), "count": len(xs)}

    @in_a_pod(**pod)
    def square(x: int, ballast: str) -> int:
        return x * x + len(ballast)

    @in_a_pod(**{**pod, "do_xcom_push": False})
    def fail() -> None:
        nothing = {}
        nothing["missing"]

    @kubernetes_cmd_task(**pod)
    def command(count: int, run_id: str | None = None) -> list[str]:
        assert run_id, "the context's variables are arguments too"
        return ["sh", "-c", 'echo "[\\"$0\\", $1]" > /airflow/xcom/return.json', "{{ dag.dag_id }}", str(count)]

    xs = numbers()
    sums = add_up(xs, unit="{{ dag.dag_id }}")
    squares = square.partial(ballast=ballast()).expand(x=xs)
    all_squares = add_up.override(task_id="add_up_squares")(squares, unit="square")
    fail()

    @task
    def collect(totals: list[int], squares: list[int], said: list[Any]) -> list[Any]:
        return [totals, sorted(squares), said]

    collect([sums["total"], all_squares["total"]], squares, command(sums["count"]))


MODES = {
    "in_a_worker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "workerless": {"deferrable": True, "start_from_trigger": True, "end_from_trigger": True},
}
for name, mode in MODES.items():
    # Not `@dag`, which would make a DagParam of the function's argument.
    with DAG(DAG_ID.format(name), schedule=None):
        decorated(mode)
