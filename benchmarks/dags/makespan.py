"""Independent pods, as many as the environment says, by the operator that it names. For `airflow_makespan.py`."""

from __future__ import annotations

import os
from importlib import import_module

from airflow.sdk import dag

SECONDS = os.environ["MAKESPAN_SECONDS"]
# One cluster simulates a pod that asks for it, another must be told where: real clusters have kwok nodes for that.
SIMULATED = {
    "annotations": {"sim/run-for": f"{SECONDS}s"},
    "node_selector": {"type": "kwok"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
}
REAL = {"cmds": ["sleep", SECONDS]}


@dag(schedule=None, max_active_tasks=int(os.environ["MAKESPAN_PODS"]))
def makespan() -> None:
    operator = import_module(os.environ["MAKESPAN_OPERATOR"]).KubernetesPodOperator
    pod = SIMULATED if os.environ["MAKESPAN_SIMULATED"] else REAL
    for number in range(int(os.environ["MAKESPAN_PODS"])):
        operator(
            task_id=f"pod_{number}",
            image="busybox:1.36",
            startup_timeout_seconds=600,
            deferrable=True,
            # A simulated pod has no log worth reading; fetching it is not what is measured.
            get_logs=not os.environ["MAKESPAN_SIMULATED"],
            **pod,
        )


makespan()
