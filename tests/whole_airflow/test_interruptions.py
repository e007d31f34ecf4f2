"""Users and operating systems that end things while pods run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.whole_airflow.conftest import WholeAirflow
from tests.whole_airflow.dags.ended_together import PODS

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

SECONDS = 50
"""How long pods run: more than it takes to defer their tasks and to restart the triggerer on a busy machine."""


def test_a_restarted_triggerer_and_a_killed_task(whole_airflow: WholeAirflow) -> None:
    """The triggerer stops while pods run: each line is still shown once. Then a user ends one task: its pod goes."""
    airflow = whole_airflow.airflow
    run = whole_airflow.start("patient", {"pods": 3, "seconds": SECONDS})
    whole_airflow.until("three deferred tasks", lambda: airflow.task_states(run)["deferred"] == 3)
    tasks = [task for task in airflow.task_instances(run) if task.task_id == "count"]
    whole_airflow.until("logs", lambda: all("[base] count 3" in whole_airflow.log(run, task) for task in tasks))

    whole_airflow.wait(airflow.restart("triggerer", grace=15))
    whole_airflow.until("more logs", lambda: "[base] count 12" in whole_airflow.log(run, tasks[0]))
    pods = whole_airflow.pods()
    whole_airflow.wait(airflow.set_state(run, tasks[0], "failed"))
    whole_airflow.until("the pod of the killed task to go", lambda: len(whole_airflow.pods()) < len(pods), timeout=20)

    whole_airflow.wait(airflow.finished(run, timeout=180))
    assert {str(task): task.state for task in airflow.task_instances(run) if task.task_id == "count"} == {
        "count[0]": "failed",
        "count[1]": "success",
        "count[2]": "success",
    }
    for task in tasks[1:]:
        counted = re.findall(r"^\[base\] count (\d+)$", "\n".join(whole_airflow.log(run, task)), re.MULTILINE)
        assert [int(number) for number in counted] == list(range(1, SECONDS + 1))
    whole_airflow.until("all pods to go", lambda: not whole_airflow.pods())


def test_a_triggerer_killed_while_it_ends_tasks_fails_none_of_them(whole_airflow: WholeAirflow, tmp_path: Path) -> None:
    """Their pods are deleted before Airflow has stored how they ended: the next triggerer knows all the same."""
    airflow = whole_airflow.airflow
    run = whole_airflow.start("ended_together", {"folder": str(tmp_path)})
    whole_airflow.until("all pods", lambda: len(whole_airflow.pods()) == PODS)
    whole_airflow.until("all tasks to be deferred", lambda: airflow.task_states(run)["deferred"] == PODS)
    (tmp_path / "end").touch()
    whole_airflow.until("the first pod to go", lambda: len(whole_airflow.pods()) < PODS)
    whole_airflow.wait(airflow.restart("triggerer"))
    whole_airflow.wait(airflow.finished(run, timeout=180))
    assert whole_airflow.failures(run) == {}
    assert [airflow.xcom(run, "end", map_index=index) for index in range(PODS)] == [7] * PODS
