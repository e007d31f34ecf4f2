"""Airflow outside the cluster, all on one machine: LocalExecutor, one log folder."""

from __future__ import annotations

import pytest

from tests.deployments.conftest import Start
from tests.deployments.everywhere import run_everywhere

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(400)]


def test_every_kind_of_task_runs_under_the_local_executor(start: Start) -> None:
    with start() as whole:
        run_everywhere(whole)
