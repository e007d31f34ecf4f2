"""A pod that the cluster takes away, or that runs out of memory, is created again within the same try."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(
    schedule=None,
    tags=["kpo-async"],
    params={"seconds": Param(10, type="integer", minimum=0, description="How long the pod runs")},
)
def disruptions() -> None:
    KubernetesPodOperator(
        task_id="patient",
        image="busybox:1.36",
        cmds=["sh", "-c", "echo attempt on $HOSTNAME; sleep {{ params.seconds }}"],
        container_resources={"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}},
        # Evicted, preempted, deleted, lost with its node: another pod, up to three times, away from that node.
        retry_on_disruption=3,
        # Out of memory: another pod with twice as much, up to 1 GiB.
        on_oom={"memory": 2.0, "max": "1Gi"},
        # All pods of a try together. What fails for another reason is Airflow's to retry.
        execution_timeout=timedelta(hours=1),
        retries=1,
        deferrable=True,
    )


disruptions()
