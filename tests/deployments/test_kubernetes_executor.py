"""Airflow outside the cluster, tasks in pods or processes: KubernetesExecutor, and LocalExecutor beside it."""

from __future__ import annotations

import pytest

from tests.deployments.airflow import PROMPT
from tests.deployments.conftest import Start
from tests.deployments.everywhere import run_everywhere

pytestmark = [pytest.mark.airflow, pytest.mark.deployments, pytest.mark.timeout(600)]


def test_every_kind_of_task_runs_under_the_kubernetes_executor_and_under_several_at_once(
    start: Start, image: str
) -> None:
    executors = ["LocalExecutor", "KubernetesExecutor"]
    with start(executors=executors, triggerers=["triggerer"], image=image, environment=PROMPT) as whole:
        for dag_id in ("everywhere_KubernetesExecutor", "everywhere_mixed"):
            run_everywhere(whole, dag_id)
