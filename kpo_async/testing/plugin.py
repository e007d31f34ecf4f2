"""The fixtures `run_dag`, `kpo_cluster` and `kpo_faults`, and the options of pytest that choose a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from kpo_async.localcluster.api.faults import Faults
    from kpo_async.testing.airflow import TestAirflow
    from kpo_async.testing.cluster import Cluster
    from kpo_async.testing.run import Run

RUN_TIMEOUT = 120.0
"""Seconds that a run may take unless the test says otherwise."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("kpo-async", "DAGs whose tasks run in pods")
    group.addoption(
        "--kpo-kubeconfig",
        type=Path,
        metavar="PATH",
        help="run the pods on the cluster of this kubeconfig, in a namespace of their own (default: the embedded one)",
    )


@pytest.fixture(scope="session")
def kpo_connection_ids() -> Sequence[str]:
    """Return the ids of the connections that lead to the test's cluster. Override it if your DAGs have other ones."""
    return ("kubernetes_default",)


@pytest.fixture(scope="session")
def kpo_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Yield the cluster on which pods run: the embedded one, or that of `--kpo-kubeconfig`."""
    from kpo_async.testing.cluster import cluster

    with cluster(request.config.getoption("--kpo-kubeconfig")) as opened:
        yield opened


@pytest.fixture
def kpo_faults(kpo_cluster: Cluster) -> Iterator[Faults]:
    """Yield what makes the embedded API server misbehave; at the test's end all faults end."""
    yield kpo_cluster.faults
    kpo_cluster.faults.clear()


@pytest.fixture(scope="session")
def kpo_airflow(
    request: pytest.FixtureRequest,
    kpo_cluster: Cluster,
    kpo_connection_ids: Sequence[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TestAirflow]:
    """Yield an Airflow with a database of its own and a triggerer, for the whole session."""
    from kpo_async.testing.airflow import TestAirflow

    # There is none with `-p no:cacheprovider`.
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("kpo-async") if cache else tmp_path_factory.mktemp("kpo-async")
    connections = dict.fromkeys(kpo_connection_ids, kpo_cluster.connection)
    with TestAirflow(tmp_path_factory.mktemp("airflow"), folder, connections) as airflow:
        yield airflow


@pytest.fixture
def run_dag(kpo_airflow: TestAirflow) -> Callable[..., Run]:
    """Return `run_dag(dag, conf=None, timeout=120)`, which runs a DAG to its end and returns a `Run`."""

    def run_dag(dag: DAG, conf: dict[str, Any] | None = None, timeout: float = RUN_TIMEOUT) -> Run:
        from kpo_async.testing.run import run

        return run(kpo_airflow, dag, conf, timeout)

    return run_dag
