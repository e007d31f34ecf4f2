"""All of Airflow in the cluster: `in_cluster=True`, two triggerers, service accounts with the documented rights."""

from __future__ import annotations

import pytest

from tests.deployments.airflow import PROMPT
from tests.deployments.conftest import Start
from tests.deployments.everywhere import run_everywhere

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(400)]


def test_every_kind_of_task_runs_in_the_cluster_with_least_rights(start: Start, image: str) -> None:
    with start(in_cluster=True, image=image, environment=PROMPT) as whole:
        run_everywhere(whole)
