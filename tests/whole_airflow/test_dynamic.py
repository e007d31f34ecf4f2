"""What Airflow decides when tasks run reaches the pods: mapped arguments, templates, results, rules, pools."""

from __future__ import annotations

import pytest

from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_mapped_templated_grouped_and_framed_tasks_run_as_airflow_says(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    run = whole_airflow.run("dynamic")
    assert set(whole_airflow.failures(run)) == {"failing"}
    assert [airflow.xcom(run, "mapped", map_index=index) for index in (0, 1)] == [["1", "LOUD"], ["2", "LOUD"]]
    assert [airflow.xcom(run, "group.results", map_index=index) for index in (0, 1)] == [
        ["ready", "ready", "a", "7"],
        ["ready", "ready", "b", "7"],
    ]
    assert airflow.xcom(run, "after") == ["anyway"]
    assert airflow.xcom(run, "down") == ["tidied"]
    names = airflow.request(f"/api/v2/dags/dynamic/dagRuns/{run.run_id}/taskInstances?task_id=mapped")
    assert {task["rendered_map_index"] for task in names["task_instances"]} == {"number 1", "number 2"}


def test_a_pool_that_counts_deferred_tasks_bounds_the_pods(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    airflow.request("/api/v2/pools", {"name": "narrow", "slots": 2, "include_deferred": True})
    run = whole_airflow.run("pooled")
    assert whole_airflow.failures(run) == {}
    lives = [airflow.xcom(run, "lives", map_index=index) for index in range(4)]
    at_once = [sum(began <= moment < ended for began, ended in lives) for moment, _ in lives]
    assert max(at_once) <= 2
