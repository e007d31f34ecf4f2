"""Tasks that no worker starts or ends."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async.demo.airflow import DagRun
from kpo_async.hooks.airflow import AIRFLOW_VERSION, FAILING_IN_TRIGGERER_RETRIES
from tests.airflow_versions import starts_in_triggerer
from tests.whole_airflow.conftest import WholeAirflow, ran_on_workers
from tests.whole_airflow.dags.workerless import ITEMS, MANY

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
BROKEN = {"broken", "contradicted", "unconnected", "unmappable"}
PYTHON = {"commands", "words", "some_words", "scripts", "numbers"}


def rendered_fields(whole: WholeAirflow, run: DagRun, task_id: str) -> dict[str, Any]:
    """The rendered fields on the page of a task."""
    found = whole.airflow.request(f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}")
    fields: dict[str, Any] = found["rendered_fields"]
    return fields


@starts_in_triggerer
def test_tasks_run_without_a_worker_as_they_would_with_one(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    run = whole_airflow.run("workerless")
    assert set(whole_airflow.failures(run)) == BROKEN | {"skipped", "never_mapped"}
    # The list's second item has params of its own, a worker shows the error of a template that cannot be rendered, and
    # it knows which instances of a mapped task have pushed an XCom.
    assert ran_on_workers(whole_airflow, run) == PYTHON | {"listed", "broken", "sparse", "ended_by_worker"}
    said = airflow.xcom(run, "plain")
    assert said == f"loud {run.run_id} loud unset plain"
    assert airflow.xcom(run, "pulled") == f"{said} {said} {airflow.xcom(run, 'plain', key='pod_namespace')}"
    assert [airflow.xcom(run, "product", map_index=n) for n in range(6)] == [
        f"1 {letter} {number}" for number, letter in enumerate("xxxyyy")
    ]
    assert [airflow.xcom(run, "listed", map_index=n) for n in range(2)] == ["one", "two"]
    assert [airflow.xcom(run, "over_xcom", map_index=n) for n in range(3)] == ITEMS
    assert airflow.xcom(run, "ended_by_worker") == "half"
    # Airflow takes rendered fields from workers only.
    assert rendered_fields(whole_airflow, run, "plain") == {}
    assert rendered_fields(whole_airflow, run, "ended_by_worker")["image"] == "busybox:1.36"
    mapped = {"over_pod": "lm", "chained": "lmvw", "sparse": "vw"}
    for name, letters in mapped.items():
        expected = [f"{letter} {index}" for index, letter in enumerate(letters)]
        assert [airflow.xcom(run, name, map_index=n) for n in range(len(letters))] == expected
    assert [airflow.xcom(run, "zipped", map_index=n) for n in range(2)] == ["v 1", "w 2"]
    tasks = {str(task): task for task in airflow.task_instances(run)}
    assert (tasks["skipped"].state, tasks["retried"].try_number) == ("skipped", 2)
    errors = {name: airflow.error(run, tasks[name]) for name in BROKEN}
    assert "'nothing' is undefined" in errors["broken"]
    assert 'Invalid value: "not a name"' in errors["contradicted"]
    assert "Connection 'nowhere' is not defined" in errors["unconnected"]
    assert "unmappable return type 'int'" in errors["unmappable"]
    whole_airflow.until("their pods to go", lambda: not whole_airflow.pods())


@starts_in_triggerer
def test_all_pods_of_a_mapped_task_run_at_once(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.start("many", {"seconds": 30})
    whole_airflow.until("all pods at once", lambda: len(whole_airflow.pods()) == MANY)
    whole_airflow.wait(whole_airflow.airflow.finished(run, timeout=120))
    assert whole_airflow.failures(run) == {}
    assert ran_on_workers(whole_airflow, run) == set()


@starts_in_triggerer
def test_pods_of_tasks_that_end_while_no_triggerer_is_there_go(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    run = whole_airflow.start("many", {"seconds": 600})
    whole_airflow.until("all pods at once", lambda: len(whole_airflow.pods()) == MANY)
    whole_airflow.wait(airflow.kill("triggerer"))
    whole_airflow.wait(airflow.set_state(run, airflow.task_instances(run)[0], "failed"))
    whole_airflow.wait(airflow.start("triggerer"))
    whole_airflow.until("its pod to go", lambda: len(whole_airflow.pods()) == MANY - 1)
    whole_airflow.wait(airflow.set_run_state(run, "failed"))
    whole_airflow.until("all pods to go", lambda: not whole_airflow.pods())


@pytest.mark.skipif(FAILING_IN_TRIGGERER_RETRIES, reason="from Airflow 3.3.1 on the triggerer starts them")
def test_workers_start_the_same_tasks_before_airflow_3_3_1_and_say_so(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("many", {"seconds": 1})
    assert whole_airflow.failures(run) == {}
    assert ran_on_workers(whole_airflow, run) == {"sleep"}
    reason = f"A worker starts this task in spite of start_from_trigger: Airflow {AIRFLOW_VERSION} cannot: 3.3.1 is"
    for task in whole_airflow.airflow.task_instances(run):
        assert reason in "\n".join(whole_airflow.log(run, task)), str(task)
