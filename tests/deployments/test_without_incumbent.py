"""An environment without the incumbent: connection form, Test button, `@task.kubernetes`, hooks and callbacks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kpo_async.get_provider_info import INCUMBENT
from tests.deployments.conftest import Start
from tests.deployments.overlay import environment_without

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(300)]
DAGS = Path(__file__).parent / "dags_alone"


def test_connections_decorators_hooks_and_callbacks_work_without_the_incumbent(start: Start, tmp_path: Path) -> None:
    python = environment_without(INCUMBENT, tmp_path / "environment")
    settings = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    with start(dags=DAGS, python=python, triggerers=["triggerer"], environment=settings) as whole:
        airflow = whole.airflow
        run = whole.run("alone")
        assert whole.failures(run) == {}
        assert airflow.xcom(run, "decorated") == 3
        assert airflow.xcom(run, "hooked") == json.loads(whole.connection)["extra"]["namespace"]
        tasks = {task.task_id: task for task in airflow.task_instances(run)}
        assert "the callback sees pod called-back" in "\n".join(whole.log(run, tasks["called_back"]))

        connection = json.loads(whole.connection)
        body = {"connection_id": "tested", **connection, "extra": json.dumps(connection["extra"])}
        answer = airflow.request("/api/v2/connections/test", body)
        assert answer["status"] is True, answer
        forms = {hook["connection_type"]: hook for hook in airflow.request("/ui/connections/hook_meta")}
        assert "kpo_async" in forms["kubernetes"]["hook_class_name"]
        assert "kube_config_path" in forms["kubernetes"]["extra_fields"]
    listed = subprocess.run([python, "-m", "airflow", "providers", "list"], capture_output=True, text=True, check=True)
    assert "kpo-async" in listed.stdout
    assert INCUMBENT not in listed.stdout
