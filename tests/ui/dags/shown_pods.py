"""Tasks whose pods run until the test ends them: deferred, mapped, and without a worker."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG

from kpo_async.operators.pod import KubernetesPodOperator

POD: dict[str, Any] = {
    "image": "busybox:1.36",
    "cmds": ["sh", "-c"],
    "arguments": ["echo begun; sleep 600"],
    "container_resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    "deferrable": True,
}

with DAG("shown_pods", schedule=None, start_date=datetime(2026, 1, 1)):
    KubernetesPodOperator(task_id="deferred", **POD)
    KubernetesPodOperator.partial(task_id="mapped", **POD).expand(labels=[{"n": "0"}, {"n": "1"}])
    KubernetesPodOperator(task_id="workerless", start_from_trigger=True, end_from_trigger=True, **POD)
