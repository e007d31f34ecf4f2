"""Airflow outside the cluster, each component on its own machine: CeleryExecutor, no shared log folder."""

from __future__ import annotations

import pytest

from kpo_async.demo.processes import ProgramError
from tests.deployments.conftest import Start
from tests.deployments.everywhere import run_everywhere
from tests.deployments.redis import program

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(400)]


@pytest.fixture(autouse=True)
def broker() -> None:
    pytest.importorskip("airflow.providers.celery")
    try:
        program()
    except ProgramError as error:
        pytest.skip(str(error))


def test_every_kind_of_task_runs_under_the_celery_executor_and_no_log_is_lost(start: Start) -> None:
    """The page of a task that no worker began or ended asks nobody for its log, which says so itself."""
    with start(executors=["CeleryExecutor"], triggerers=["triggerer"], shared_logs=False) as whole:
        run, tasks = run_everywhere(whole, unseen={"workerless"})
        assert "A worker ends this task in spite of end_from_trigger" in "\n".join(whole.log(run, tasks["ended"]))
        first, *_ = whole.log(run, tasks["workerless"])
        assert "only if the API server has the triggerer's log folder" in first
