"""One Airflow on PostgreSQL with two triggerers, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kpo_async.demo.processes import ProgramError
from tests.deployments.airflow import Deployment, WholeAirflow, deployment, in_a_thread
from tests.deployments.postgres import programs
from tests.whole_airflow.conftest import DAGS

ENVIRONMENT = {
    # By default a dead triggerer's triggers wait 30 s for the other triggerer.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


@pytest.fixture(scope="session")
def two_triggerers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeAirflow[Deployment]]:
    try:
        programs()
    except ProgramError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cluster")
    with in_a_thread(deployment(DAGS, folder, environment=ENVIRONMENT)) as whole:
        yield whole
