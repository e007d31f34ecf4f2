"""What a worker's process asks of Airflow."""

from __future__ import annotations

import pytest

from tests.deployments.airflow import Deployment, WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_a_worker_learns_the_state_of_its_task(two_triggerers: WholeAirflow[Deployment]) -> None:
    run = two_triggerers.run("asking")
    assert two_triggerers.failures(run) == {}
    assert two_triggerers.airflow.xcom(run, "own_state") == "running"
