"""Airflow outside the cluster, all on one machine: LocalExecutor, one log folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployments.airflow import Deployment, WholeAirflow
from tests.deployments.conftest import Start
from tests.deployments.everywhere import imports_of_tasks, run_everywhere

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def local(start: Start) -> Iterator[WholeAirflow[Deployment]]:
    with start() as whole:
        yield whole


def test_every_kind_of_task_runs_under_the_local_executor(local: WholeAirflow[Deployment]) -> None:
    run_everywhere(local)


def test_the_processes_that_start_and_end_a_task_import_nothing(local: WholeAirflow[Deployment]) -> None:
    assert imports_of_tasks(local) == ["[]", "[]"]
