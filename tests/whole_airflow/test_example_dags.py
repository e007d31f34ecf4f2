"""The example DAGs do what they say, in a real Airflow."""

from __future__ import annotations

import pytest

from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_the_first_pod_hands_its_answer_to_the_next_task(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("first_pod")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "show") == 42
    hello = next(task for task in whole_airflow.airflow.task_instances(run) if task.task_id == "hello")
    assert any("hello from" in line for line in whole_airflow.log(run, hello))


def test_the_fan_out_adds_up_the_squares_of_all_pods(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("fan_out", {"pods": 20, "seconds": 2})
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "add_up") == sum(n * n for n in range(1, 21))


def test_the_same_pod_logs_the_same_in_the_triggerer_and_in_a_worker(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("side_by_side")
    assert whole_airflow.failures(run) == {}
    lines = {
        task.task_id: [line for line in whole_airflow.log(run, task) if "line " in line]
        for task in whole_airflow.airflow.task_instances(run)
    }
    assert len(lines["in_a_worker"]) == 5
    assert lines["in_the_triggerer"] == lines["in_a_worker"]
