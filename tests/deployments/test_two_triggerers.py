"""Two triggerers of one Airflow on PostgreSQL share its triggers, and one of them is killed, frozen or restarted."""

from __future__ import annotations

import json
import re
import signal
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from kpo_async.demo.airflow import DagRun, TaskInstance
from tests.deployments.airflow import TRIGGERERS, Deployment, WholeAirflow
from tests.deployments.repeats import unannounced_repeats

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(400)]

COUNT = re.compile(r"^\[base\] count (\d+)$", re.MULTILINE)
FROZEN = 60.0
AWAKE = 10.0
"""Seconds for which a thawed triggerer is watched."""

Whole = WholeAirflow[Deployment]


def test_the_other_triggerer_takes_over_the_pods_of_a_killed_one(two_triggerers: Whole) -> None:
    airflow = two_triggerers.airflow
    run, tasks = counting(two_triggerers, seconds=40)
    killed = triggerer_of(two_triggerers, run, tasks[0])
    two_triggerers.wait(airflow.kill(killed))
    try:
        ends_well(two_triggerers, run, tasks, seconds=40)
    finally:
        two_triggerers.wait(airflow.start(killed))
    for task in tasks:
        page = two_triggerers.wait(airflow.shown_log(run, task))
        assert {"[base] count 1", "[base] count 40"} <= set(page)


def test_a_thawed_triggerer_writes_nothing_and_ends_nothing_of_tasks_that_have_moved(two_triggerers: Whole) -> None:
    airflow = two_triggerers.airflow
    run, tasks = counting(two_triggerers, seconds=100)
    name = triggerer_of(two_triggerers, run, tasks[0])
    moved = [task for task in tasks if triggerer_of(two_triggerers, run, task) == name]
    airflow.program(name).send_signal(signal.SIGSTOP)
    try:
        time.sleep(FROZEN)
        others = {triggerer_of(two_triggerers, run, task) for task in moved}
    finally:
        thawed_at = datetime.now(timezone.utc)
        airflow.program(name).send_signal(signal.SIGCONT)
    assert others == set(TRIGGERERS) - {name}
    shown = {task: counted(two_triggerers, run, task) for task in moved}
    time.sleep(AWAKE)
    for task in moved:
        assert written_since(thawed_at, log_file(airflow, name, run, task)) == []
        assert max(counted(two_triggerers, run, task)) > max(shown[task])
    ends_well(two_triggerers, run, tasks, seconds=100)


def test_rolling_restarts_of_both_triggerers_change_nothing(two_triggerers: Whole) -> None:
    run, tasks = counting(two_triggerers, seconds=60)
    for name in TRIGGERERS:
        two_triggerers.wait(two_triggerers.airflow.restart(name, grace=15))
        for task in tasks:
            log_goes_on(two_triggerers, run, task)
    ends_well(two_triggerers, run, tasks, seconds=60)


def counting(whole: Whole, seconds: int) -> tuple[DagRun, list[TaskInstance]]:
    """Start a pod in each mode; return the run and its tasks once their logs show some lines."""
    run = whole.start("modes", {"seconds": seconds})
    whole.until("tasks", lambda: whole.airflow.task_states(run)["deferred"] == len(whole.airflow.task_instances(run)))
    tasks = whole.airflow.task_instances(run)
    whole.until("logs", lambda: all(3 in counted(whole, run, task) for task in tasks))
    return run, tasks


def log_goes_on(whole: Whole, run: DagRun, task: TaskInstance) -> None:
    last = max(counted(whole, run, task))
    whole.until(f"a further line of {task}", lambda: max(counted(whole, run, task)) > last)


def ends_well(whole: Whole, run: DagRun, tasks: list[TaskInstance], seconds: int) -> None:
    """Wait for the end of a run; its tasks have succeeded, with their results and all lines, and no pod is left."""
    whole.wait(whole.airflow.finished(run, timeout=180))
    assert whole.failures(run) == {}
    for task in tasks:
        assert whole.airflow.xcom(run, task.task_id) == seconds
        assert set(counted(whole, run, task)) == set(range(1, seconds + 1))
        assert unannounced_repeats(whole.log(run, task), COUNT) == []
    whole.until("no pod to be left", lambda: whole.pods() == set(), timeout=15)


def triggerer_of(whole: Whole, run: DagRun, task: TaskInstance) -> str:
    name = whole.airflow.triggerer_of(run, task)
    assert name is not None
    return name


def counted(whole: Whole, run: DagRun, task: TaskInstance) -> list[int]:
    """Return the numbers that a pod has printed into its task's log."""
    return [int(number) for number in COUNT.findall("\n".join(whole.log(run, task)))]


def log_file(airflow: Deployment, name: str, run: DagRun, task: TaskInstance) -> Path:
    """Return the file in which a triggerer writes a task's log."""
    jobs = "SELECT max(id) FROM job WHERE job_type = 'TriggererJob' AND hostname = :host"
    [(job,)] = airflow.query(jobs, host=airflow.host(name))
    folder = airflow.log_folder(name) / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={task.task_id}"
    return folder / f"attempt=1.log.trigger.{job}.log"


def written_since(moment: datetime, file: Path) -> list[str]:
    """Return what this library has written into a log file since then. Airflow writes that the trigger has ended."""
    records = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        record["event"]
        for record in records
        if datetime.fromisoformat(record["timestamp"]) > moment and record.get("logger", "").startswith("kpo_async")
    ]
