"""Tasks that no worker starts or ends."""

from __future__ import annotations

import pytest

from tests.whole_airflow.conftest import WholeAirflow
from tests.whole_airflow.dags.workerless import ITEMS

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_each_kind_of_task_runs_without_a_worker(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    run = whole_airflow.run("workerless")
    for ti in airflow.task_instances(run):
        print(ti, ti.state, *whole_airflow.log(run, ti)[-6:], sep="\n    ")
    states = {str(ti): ti.state for ti in airflow.task_instances(run)}
    assert {name for name, state in states.items() if state == "failed"} == {"broken", "contradicted", "unconnected"}
    said = airflow.xcom(run, "plain")
    assert said == f"loud {run.run_id} loud unset plain"
    assert airflow.xcom(run, "pulled") == f"{said} {said} default"
    assert [airflow.xcom(run, "product", map_index=n) for n in range(6)] == [
        f"1 {letter} {number}" for number, letter in enumerate("xxxyyy")
    ]
    assert [airflow.xcom(run, "over_xcom", map_index=n) for n in range(3)] == ITEMS
    assert states["skipped"] == "skipped"
