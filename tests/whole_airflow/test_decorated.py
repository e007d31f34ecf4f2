"""Functions as pods do the same in all modes, in a real Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpo_async.hooks.airflow import FAILING_IN_TRIGGERER_RETRIES
from tests.whole_airflow.conftest import DAGS, WholeAirflow, ran_on_workers

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("mode", ["in_a_worker", "deferred", "workerless"])
def test_functions_get_their_arguments_and_hand_back_their_results(whole_airflow: WholeAirflow, mode: str) -> None:
    run = whole_airflow.run(f"decorated_{mode}")
    assert set(whole_airflow.failures(run)) == {"fail"}
    result = whole_airflow.airflow.xcom(run, "collect")
    assert result == [[3, 400_005], [200_001, 200_004], [f"decorated_{mode}", 2]]
    if mode == "workerless" and FAILING_IN_TRIGGERER_RETRIES:
        # A command's function is in the DAG file, and only a worker reads all XComs of a mapped task.
        on_workers = {"numbers", "ballast", "collect", "command", "add_up_squares"}
        assert ran_on_workers(whole_airflow, run) == on_workers
    (failed,) = (task for task in whole_airflow.airflow.task_instances(run) if task.task_id == "fail")
    log = "\n".join(whole_airflow.log(run, failed))
    line = _line_of("decorated.py", 'nothing["missing"]')
    assert f'decorated.py", line {line}, in fail' in log
    assert "KeyError: 'missing'" in log


def _line_of(file: str, text: str) -> int:
    lines = Path(DAGS / file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)
