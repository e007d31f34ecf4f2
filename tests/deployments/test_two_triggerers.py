"""Two triggerers of one Airflow on PostgreSQL share its triggers."""

from __future__ import annotations

import re

import pytest

from kpo_async.demo.airflow import DagRun, TaskInstance
from tests.deployments.airflow import Deployment, WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

SECONDS = 40
PODS = 4


def test_the_other_triggerer_takes_over_the_pods_of_a_killed_one(two_triggerers: WholeAirflow[Deployment]) -> None:
    airflow = two_triggerers.airflow
    run = two_triggerers.start("patient", {"pods": PODS, "seconds": SECONDS})
    two_triggerers.until("deferred tasks", lambda: airflow.task_states(run)["deferred"] == PODS)
    tasks = [task for task in airflow.task_instances(run) if task.task_id == "count"]
    two_triggerers.until("logs", lambda: all(3 in counted(two_triggerers, run, task) for task in tasks))
    killed = airflow.triggerer_of(run, tasks[0])
    assert killed is not None
    two_triggerers.wait(airflow.kill(killed))
    try:
        two_triggerers.wait(airflow.finished(run, timeout=180))
    finally:
        two_triggerers.wait(airflow.start(killed))
    assert two_triggerers.failures(run) == {}
    for task in tasks:
        assert airflow.xcom(run, "count", map_index=task.map_index) == SECONDS
        assert set(counted(two_triggerers, run, task)) == set(range(1, SECONDS + 1))
        page = two_triggerers.wait(airflow.shown_log(run, task))
        assert "[base] count 1" in page
        assert f"[base] count {SECONDS}" in page
    assert two_triggerers.pods() == set()


def counted(whole: WholeAirflow[Deployment], run: DagRun, task: TaskInstance) -> list[int]:
    """Return the numbers that a pod has printed into its task's log."""
    log = "\n".join(whole.log(run, task))
    return [int(number) for number in re.findall(r"^\[base\] count (\d+)$", log, re.MULTILINE)]
