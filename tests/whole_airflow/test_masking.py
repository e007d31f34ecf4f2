"""Secrets that a task's templates fetched are masked in every part of its log, and are not in its trigger's row."""

from __future__ import annotations

import pytest

from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]
PASSWORD, TOKEN, WORD = "hunter-two-and-a-half", "token-of-the-shop", "a-public-word"


def test_a_pod_that_prints_its_secrets_is_masked_in_worker_and_triggerer(whole_airflow: WholeAirflow) -> None:
    airflow = whole_airflow.airflow
    airflow.request("/api/v2/connections", {"connection_id": "shop", "conn_type": "http", "password": PASSWORD})
    for key, value in (("shop_token", TOKEN), ("shop_word", WORD)):
        airflow.request("/api/v2/variables", {"key": key, "value": value})
    run = whole_airflow.run("secretive")
    assert whole_airflow.failures(run) == {}
    for task in airflow.task_instances(run):
        log = "\n".join(whole_airflow.log(run, task))
        assert f"[base] the password is ***, the token ***, the word {WORD}" in log, str(task)
        assert PASSWORD not in log
        assert TOKEN not in log
