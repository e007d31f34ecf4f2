"""One Airflow on an embedded cluster, shared by all tests of this folder, because it takes 15 s to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kpo_async.demo.airflow import Airflow, DagRun
from tests.deployments.airflow import PROMPT, WholeAirflow, in_a_thread, on_sqlite
from tests.statsd import StatsdReceiver, statsd_receiver

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAGS = Path(__file__).parent / "dags"

__all__ = ["DAGS", "WholeAirflow", "ran_on_workers"]


def ran_on_workers(whole: WholeAirflow, run: DagRun) -> set[str]:
    """The tasks of a run that had a worker process: it writes its host name."""
    rows = whole.airflow.query("SELECT task_id, hostname FROM task_instance WHERE run_id = :run", run=run.run_id)
    return {task_id for task_id, hostname in rows if hostname}


@pytest.fixture(scope="package")
def statsd() -> Iterator[StatsdReceiver]:
    """Receives what `whole_airflow` publishes."""
    with statsd_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="package")
def whole_airflow(tmp_path_factory: pytest.TempPathFactory, statsd: StatsdReceiver) -> Iterator[WholeAirflow[Airflow]]:
    settings = {
        **PROMPT,
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
    }
    dags = tmp_path_factory.mktemp("dags")
    for file in (*EXAMPLES.glob("*.py"), *DAGS.glob("*.py")):
        (dags / file.name).symlink_to(file)
    with in_a_thread(on_sqlite(dags, tmp_path_factory.mktemp("cluster"), "research", environment=settings)) as whole:
        yield whole
