"""Airflow outside the cluster, each component on its own machine: CeleryExecutor, no shared log folder."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kpo_async.demo.processes import ProgramError
from tests.deployments.airflow import Deployment, WholeAirflow
from tests.deployments.conftest import Start
from tests.deployments.everywhere import imports_of_tasks, run_everywhere
from tests.deployments.redis import program

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(400)]


ELSEWHERE = json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": "/nowhere/kubeconfig"}})


@pytest.fixture(scope="module")
def celery(start: Start) -> Iterator[WholeAirflow[Deployment]]:
    pytest.importorskip("airflow.providers.celery")
    try:
        program()
    except ProgramError as error:
        pytest.skip(str(error))
    with start(
        executors=["CeleryExecutor"],
        triggerers=["triggerer"],
        shared_logs=False,
        environments=lambda connection: {
            "worker": {"AIRFLOW_CONN_UNKNOWN": connection, "AIRFLOW_CONN_WITHOUT_FILE": connection},
            "triggerer": {"AIRFLOW_CONN_WITHOUT_FILE": ELSEWHERE},
        },
    ) as whole:
        yield whole


def test_every_kind_of_task_runs_under_the_celery_executor_and_no_log_is_lost(
    celery: WholeAirflow[Deployment],
) -> None:
    """The page of a task that no worker began or ended cannot show its log, which says so itself."""
    run, tasks = run_everywhere(celery, unseen={"workerless"})
    assert "A worker ends this task in spite of end_from_trigger" in "\n".join(celery.log(run, tasks["ended"]))
    assert "only if the API server has the triggerer's log folder" in "\n".join(celery.log(run, tasks["workerless"]))


def test_the_processes_that_start_and_end_a_task_import_nothing(celery: WholeAirflow[Deployment]) -> None:
    assert imports_of_tasks(celery) == ["[]", "[]"]


def test_what_only_the_triggerer_lacks_is_one_sentence_that_says_where(celery: WholeAirflow[Deployment]) -> None:
    run = celery.run("one_sided")
    failures = celery.failures(run)
    assert failures.keys() == {"unknown", "without_file"}
    assert all("In the triggerer on host" in failure for failure in failures.values()), failures
    assert "Connection 'unknown' is not defined. Create it" in failures["unknown"]
    assert "/nowhere/kubeconfig" in failures["without_file"]
    celery.until("their pods to go", lambda: not celery.pods())
