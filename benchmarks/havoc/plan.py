"""What each task's pod does, and so how each task must end. `dags/chaos.py` says the same to Airflow."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kpo_async.demo.airflow import DagRun

PODS = 20
"""Tasks of one run of the DAG."""
SECONDS_PER_LINE = 2


@dataclass(frozen=True)
class Planned:
    """A task instance's fate when nothing but the operator decides it."""

    run: DagRun
    task_id: str
    lines: int
    state: str
    result: int | None


def random_lines(chance: random.Random, longest: int) -> list[int]:
    """Return how many lines each pod of a run prints; `longest`: seconds that a pod runs at most."""
    most = longest // SECONDS_PER_LINE
    return [chance.randint(most // 4, most) for _ in range(PODS)]


def planned(run: DagRun, lines: list[int]) -> list[Planned]:
    """Return the fates of a run's tasks."""
    fates = []
    for number, count in enumerate(lines):
        fails = number % 5 == 4
        # A failed pod's result is pushed too, but a task may fail for want of a worker as well.
        result = None if fails else int(f"{number + 1}{count}")
        fates.append(Planned(run, f"pod_{number}", count, "failed" if fails else "success", result))
    return fates
