"""The command line where Airflow runs: living pods of all places, and the stories of pods that are gone."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.commands.conftest import PROGRAM
from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def kpo_async(whole: WholeAirflow, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an administrator does on Airflow's host."""
    return subprocess.run(
        [*PROGRAM, *words], env=whole.airflow.environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_living_pods_are_found_by_the_database_and_by_their_task(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.start("patient", {"pods": 2, "seconds": 40})
    whole_airflow.until("two pods", lambda: len(whole_airflow.pods()) == 2)
    listed = json.loads(kpo_async(whole_airflow, "ps", "-o", "json").stdout)
    assert [(pod["task"]["dag_id"], pod["task"]["run_id"]) for pod in listed] == [("patient", run.run_id)] * 2
    assert sorted(pod["task"]["map_index"] for pod in listed) == [0, 1]
    task = ("patient", "count", run.run_id)
    running = kpo_async(whole_airflow, "diagnose", *task, "--map-index", "1", "-o", "json")
    found: Any = json.loads(running.stdout)
    assert (running.returncode, found["exists"], found["task"]["map_index"]) == (0, True, 1)
    followed = kpo_async(whole_airflow, "logs", *task, "--map-index", "0", "--follow")
    assert (followed.returncode, followed.stderr) == (0, "")
    assert followed.stdout.splitlines() == [f"count {number}" for number in range(1, 41)]
    whole_airflow.wait(whole_airflow.airflow.finished(run, 60))


def test_of_a_pod_that_is_gone_airflow_knows_the_diagnosis_and_the_log(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("doomed")
    whole_airflow.until("all pods to go", lambda: not whole_airflow.pods())
    told = kpo_async(whole_airflow, "diagnose", "doomed", "fail", run.run_id, "--output", "json")
    story = json.loads(told.stdout)
    assert told.returncode == 1
    assert (story["exists"], story["state"], story["diagnosis"]["category"]) == (False, "failed", "ExitCode")
    by_name = kpo_async(whole_airflow, "diagnose", story["pod"].partition("/")[2])
    assert by_name.returncode == 1
    assert "container 'base' failed with exit code 3" in by_name.stdout
    assert "which is gone" in by_name.stdout
    log = kpo_async(whole_airflow, "logs", "doomed", "fail", run.run_id)
    assert log.returncode == 0
    assert "is gone: this is the log of doomed.fail" in log.stderr
    assert "[base] last words" in log.stdout


def test_what_airflow_does_not_know_is_one_sentence(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("doomed")
    asked = {
        ("none", "fail", run.run_id): "DAG 'none' has no runs",
        ("doomed", "fail", "none"): "DAG 'doomed' has no run 'none'",
        ("doomed", "none", run.run_id): "DAG 'doomed' has no task 'none'",
        ("none-such-pod",): "there is no pod 'none-such-pod' in namespace",
    }
    for words, sentence in asked.items():
        refused = kpo_async(whole_airflow, "diagnose", *words)
        assert (refused.returncode, refused.stdout) == (2, "")
        (line,) = refused.stderr.splitlines()
        assert sentence in line


def test_a_connection_in_the_database_leads_to_its_cluster(whole_airflow: WholeAirflow) -> None:
    connection = json.loads(whole_airflow.connection)
    body = {"connection_id": "of_commands", **connection, "extra": json.dumps(connection["extra"])}
    whole_airflow.airflow.request("/api/v2/connections", body)
    listed = kpo_async(whole_airflow, "ps", "--conn-id", "of_commands", "--output", "json")
    assert (listed.returncode, listed.stderr) == (0, "")
    json.loads(listed.stdout)
    refused = kpo_async(whole_airflow, "ps", "--conn-id", "unknown")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Connection 'unknown' is not defined" in refused.stderr


def test_doctor_finds_nothing_wrong_where_everything_works(whole_airflow: WholeAirflow) -> None:
    whole_airflow.run("doomed")
    examined = kpo_async(whole_airflow, "doctor", "--output", "json")
    checks = json.loads(examined.stdout)
    assert examined.returncode == 0, checks
    assert any("was synced after" in check["result"] for check in checks)
