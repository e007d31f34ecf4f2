"""Pods whose task was ended while no process was there to notice are deleted by the next triggerer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone

import pytest

from kpo_async.demo.airflow import DagRun, TaskInstance
from tests.deployments.airflow import TRIGGERERS, Deployment, WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

DELETED_WITHIN = 15.0
"""Seconds from a triggerer being up until the pods of ended tasks are gone."""


def test_the_next_triggerer_deletes_pods_of_tasks_that_ended_without_one(
    two_triggerers: WholeAirflow[Deployment],
) -> None:
    whole, airflow = two_triggerers, two_triggerers.airflow
    run, tasks = deferred(whole, pods=4)
    before = whole.pods()
    with no_triggerer(whole):
        failed, succeeded, cleared, _ = tasks
        whole.wait(airflow.set_state(run, failed, "failed"))
        whole.wait(airflow.set_state(run, succeeded, "success"))
        whole.wait(airflow.clear(run, cleared))
        assert whole.pods() >= before
    within(whole, "pods of ended tasks to be gone", lambda: len(whole.pods() & before) == 1)
    whole.until("the cleared task's new pod", lambda: len(whole.pods()) == 2)
    (survivor,) = whole.pods() & before
    delete(whole, run)
    within(whole, "pods of a deleted run to be gone", lambda: not whole.pods())
    assert survivor not in whole.pods()


def deferred(whole: WholeAirflow[Deployment], pods: int) -> tuple[DagRun, list[TaskInstance]]:
    """Start pods that run for ten minutes; return their run and its deferred tasks."""
    run = whole.start("patient", {"pods": pods, "seconds": 600})
    whole.until("deferred tasks", lambda: whole.airflow.task_states(run)["deferred"] == pods)
    whole.until("pods", lambda: len(whole.pods()) == pods)
    return run, [task for task in whole.airflow.task_instances(run) if task.task_id == "count"]


@contextlib.contextmanager
def no_triggerer(whole: WholeAirflow[Deployment]) -> Iterator[None]:
    """Kill all triggerers, and start them again after the block."""
    for name in TRIGGERERS:
        whole.wait(whole.airflow.kill(name))
    killed_at = datetime.now(timezone.utc)
    try:
        yield
    finally:
        for name in TRIGGERERS:
            whole.wait(whole.airflow.start(name))
        new = "SELECT 1 FROM job WHERE job_type = 'TriggererJob' AND state = 'running' AND start_date > :killed_at"
        whole.until("a triggerer", lambda: bool(whole.airflow.query(new, killed_at=killed_at)))


def within(whole: WholeAirflow[Deployment], what: str, condition: Callable[[], bool]) -> None:
    """Wait for `condition` as long as the promise is."""
    whole.until(what, condition, timeout=DELETED_WITHIN)


def delete(whole: WholeAirflow[Deployment], run: DagRun) -> None:
    """Delete a DAG run as a user does on the page."""
    airflow = whole.airflow
    airflow.request(f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}", {}, method="DELETE")
    assert not airflow.query("SELECT 1 FROM dag_run WHERE dag_id = :dag_id AND run_id = :run_id", **asdict(run))
