"""How long it takes to build one task's manifest, ours and the incumbent's, by the same call with the same parameters.

    python benchmarks/build_pod.py [--builds 500]

`build_pod_request_obj()` without a context: no cluster and no connection is asked on either side. Budget: 1 ms.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

BUDGET = 0.001
"""Seconds of CPU."""
OPERATORS = {
    "incumbent": ("airflow.providers.cncf.kubernetes.operators.pod", {"dry_run": True}),
    "kpo_async": ("kpo_async.operators.pod", {}),
}


def typical(k8s: Any) -> dict[str, Any]:
    """The parameters of a task as they are found in DAGs, with models where the incumbent wants them."""
    return {
        "task_id": "transform.orders",
        "name": "transform_orders",
        "namespace": "jobs",
        "image": "registry.example.com/team/transform:2026.11",
        "cmds": ["python", "-m", "transform"],
        "arguments": ["--day", "2026-11-21", "--table", "orders"],
        "env_vars": {f"SETTING_{number}": str(number) for number in range(8)},
        "labels": {"team": "orders", "tier": "batch"},
        "annotations": {"example.com/cost-centre": "4711"},
        "container_resources": k8s.V1ResourceRequirements(
            requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "2Gi"}
        ),
        "volumes": [k8s.V1Volume(name="scratch", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit="1Gi"))],
        "volume_mounts": [k8s.V1VolumeMount(name="scratch", mount_path="/scratch")],
        "tolerations": [k8s.V1Toleration(key="batch", operator="Exists", effect="NoSchedule")],
        "node_selector": {"pool": "batch"},
        "service_account_name": "transform",
    }


def with_template(k8s: Any) -> dict[str, Any]:
    """The same on top of a template, as platform teams hand them out."""
    template = {
        "metadata": {"labels": {"cost": 1, "managed": True}, "annotations": {"iam": "role"}},
        "spec": {
            "containers": [
                {
                    "name": "base",
                    "env": [{"name": "REGION", "value": "eu"}],
                    "volumeMounts": [{"name": "certs", "mountPath": "/certs", "readOnly": True}],
                    "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
                },
                {"name": "proxy", "image": "proxy:1", "ports": [{"containerPort": "8080"}]},
            ],
            "volumes": [{"name": "certs", "secret": {"secretName": "certs"}}],
        },
    }
    return {**typical(k8s), "pod_template_dict": template}


def measure(build: Callable[[], object], builds: int) -> float:
    """Seconds of CPU of one build: the median, after some to warm up."""
    times = []
    for _ in range(builds + builds // 5):
        start = time.thread_time()
        build()
        times.append(time.thread_time() - start)
    return statistics.median(times[builds // 5 :])


def main() -> None:
    """Print the table; fail when ours is over the budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builds", type=int, default=500)
    builds = parser.parse_args().builds
    table = Table("parameters", *(f"{name}, ms" for name in OPERATORS))
    worst = 0.0
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("AIRFLOW_HOME", home)
        warnings.simplefilter("ignore")
        from kubernetes.client import models as k8s

        for parameters in (typical, with_template):
            row = []
            for module, arguments in OPERATORS.values():
                operator = importlib.import_module(module).KubernetesPodOperator(**parameters(k8s))
                operator._cached_logger = _silence()
                row.append(measure(lambda operator=operator, a=arguments: operator.build_pod_request_obj(**a), builds))
            worst = max(worst, row[-1])
            table.add_row(parameters.__name__, *(f"{seconds * 1000:.3f}" for seconds in row))
    Console().print(table)
    if worst > BUDGET:
        raise SystemExit(f"over the budget of {BUDGET * 1000:g} ms")


def _silence() -> logging.Logger:
    log = logging.getLogger("benchmark")
    log.setLevel(logging.CRITICAL)  # the incumbent logs every build
    return log


if __name__ == "__main__":
    main()
