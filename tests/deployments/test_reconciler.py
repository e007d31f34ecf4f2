"""Pods whose task was ended while no process was there to notice are deleted by the next triggerer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
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
    with no_triggerer(whole):
        whole.wait(airflow.set_run_state(run, "failed"))
        delete(whole, run)
        assert len(whole.pods()) == 2
    within(whole, "pods of a deleted run to be gone", lambda: not whole.pods())


def test_gc_lists_what_the_reconciler_would_do_and_does_it_when_told(
    two_triggerers: WholeAirflow[Deployment],
) -> None:
    whole, airflow = two_triggerers, two_triggerers.airflow
    run, (failed, alive) = deferred(whole, pods=2)
    foreign = whole.create_pod("foreign", installation="another", owner=f"{uuid.uuid4()}/1")
    before = whole.pods()
    with no_triggerer(whole):
        whole.wait(airflow.set_state(run, failed, "failed"))
        listed = json.loads(gc(whole, "--output", "json").stdout)
        verdicts = {row["task"]: row["verdict"].partition(":")[0] for row in listed}
        assert verdicts == {f"patient.{failed} try 1": "delete", f"patient.{alive} try 1": "leave"}
        assert whole.pods() == before
        gc(whole, "--yes")
        left = {row["pod"].partition("/")[2] for row in listed if row["verdict"].startswith("leave")} | {foreign}
        assert whole.pods() == left
    whole.wait(airflow.set_run_state(run, "failed"))
    within(whole, "the other pod to be gone", lambda: whole.pods() == {foreign})
    whole.delete_pod(foreign)


def test_gc_deletes_nothing_when_it_cannot_ask_the_database(two_triggerers: WholeAirflow[Deployment]) -> None:
    unreachable = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://airflow@127.0.0.1:1/none"}
    refused = gc(two_triggerers, "--yes", code=2, **unreachable)
    assert "Nothing was deleted" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def gc(
    whole: WholeAirflow[Deployment], *arguments: str, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `kpo-async gc` as an administrator does where Airflow runs."""
    command = [sys.executable, "-m", "kpo_async.cli", "gc", *arguments]
    settings = {**whole.airflow.environment, **environment}
    ran = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == code, ran.stderr
    return ran


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
