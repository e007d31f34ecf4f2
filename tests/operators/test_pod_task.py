"""The `PodTask` that an operator's parameters become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.pod_task import for_deferral, pod_task_of
from kpo_async.pod_task import PodTask

POD = {"metadata": {"name": "pod", "namespace": "jobs", "uid": "uid"}}


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        ({"termination_grace_period": 30.0}, "grace_period", 30),
        ({"skip_on_exit_code": True}, "skip_on_exit_code", [1]),
        ({"skip_on_exit_code": [3.0]}, "skip_on_exit_code", [3]),
        ({"multiple_outputs": None}, "multiple_outputs", False),
        ({"log_pod_spec_on_failure": 1}, "spec_on_failure", True),
        ({"log_events_on_failure": 1}, "events_on_failure", True),
        ({"log_events_on_startup": 0}, "events_on_startup", False),
        ({"container_name_log_prefix_enabled": 1}, "logs.prefix", True),
        ({"container_logs": ("base", "other")}, "logs.containers", ["base", "other"]),
        ({"init_container_logs": {"init"}}, "logs.init_containers", ["init"]),
        ({"in_cluster": 1}, "cluster.in_cluster", True),
        ({"config_file": Path("/etc/kubeconfig")}, "cluster.config_file", "/etc/kubeconfig"),
        ({"end_from_trigger": 0}, "end_from_trigger", False),
        ({"poll_interval": 2}, "poll_interval", 2.0),
    ],
)
def test_values_are_sent_with_the_types_that_the_triggerer_reads(
    parameters: dict[str, Any], field: str, value: object
) -> None:
    operator = KubernetesPodOperator(task_id="task", image="busybox", **parameters)
    task = for_deferral(operator, pod_task_of(operator, POD, "id/1", deadline=None), deferred_at=1.0)
    found: Any = PodTask.from_dict(json.loads(json.dumps(task.to_dict())))
    for name in field.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))
