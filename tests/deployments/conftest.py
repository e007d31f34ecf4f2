"""Airflows on PostgreSQL: one with two triggerers that tests share, and the ways in which people run it, one by one.

`--cluster KUBECONFIG` runs the latter on a real cluster, `--image` names an image there with Airflow and this package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from kpo_async.demo.processes import ProgramError
from tests.deployments.airflow import Deployment, WholeAirflow, deployment, in_a_thread
from tests.deployments.postgres import programs

HERE = Path(__file__).parent
DAGS = [*HERE.glob("two_triggerers/*.py"), HERE.parent / "whole_airflow" / "dags" / "patient.py"]
ENVIRONMENT = {
    # By default a dead triggerer's triggers wait 30 s for the other triggerer.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}


@pytest.fixture(scope="package")
def two_triggerers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeAirflow[Deployment]]:
    try:
        programs()
    except ProgramError as error:
        pytest.skip(str(error))
    folder, dags = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("dags")
    for file in DAGS:
        (dags / file.name).symlink_to(file)
    with in_a_thread(deployment(dags, folder, environment=ENVIRONMENT)) as whole:
        yield whole


SHAPES = HERE / "dags"


class Start(Protocol):
    """Start an Airflow; the arguments are those of `deployment`."""

    def __call__(self, **options: Any) -> AbstractContextManager[WholeAirflow[Deployment]]: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--image", help="tests/deployments: an image on the cluster with Airflow and this package")


@pytest.fixture
def image(request: pytest.FixtureRequest, real_cluster: Path | None) -> str:
    """The image for components and tasks that run in the cluster."""
    given: str | None = request.config.getoption("--image", None)
    if given is None or real_cluster is None:
        pytest.skip("needs a real cluster and an image with Airflow: make deployments KUBECONFIG= IMAGE=")
    return given


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, real_cluster: Path | None) -> Start:
    """Start an Airflow with the DAG `everywhere` on the cluster under test."""

    def starting(dags: Path = SHAPES, **options: Any) -> AbstractContextManager[WholeAirflow[Deployment]]:
        return in_a_thread(deployment(dags, tmp_path_factory.mktemp("cluster"), real_cluster, **options))

    return starting
