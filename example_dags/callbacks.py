"""Code of yours at each step of a pod's life, and when it has failed."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.operators.pod import KubernetesPodOperator


class Announcements(KubernetesPodOperatorCallback):
    """Functions may be plain or `async`. Override only those that you need."""

    @staticmethod
    async def on_pod_creation(*, pod: Any, **kwargs: Any) -> None:
        print("created", pod.metadata.name)

    @staticmethod
    def on_pod_completion(*, pod: Any, **kwargs: Any) -> None:
        print("completed", pod.metadata.name)

    @staticmethod
    def progress_callback(*, line: str, **kwargs: Any) -> None:
        if "percent" in line:
            print("progress:", line)


def explain(context: Any) -> None:
    """Say what to do, by the failure's stable category."""
    diagnosis = context["ti"].xcom_pull(task_ids=context["ti"].task_id, key="pod_diagnosis")
    print("failed with", diagnosis["category"], diagnosis["exit_code"])


@dag(schedule=None, tags=["kpo-async"])
def callbacks() -> None:
    good = KubernetesPodOperator(
        task_id="good",
        image="busybox:1.36",
        cmds=["sh", "-c", "echo 50 percent; sleep 1; echo 100 percent"],
        callbacks=[Announcements],
        deferrable=True,
    )
    bad = KubernetesPodOperator(
        task_id="bad",
        image="busybox:1.36",
        cmds=["sh", "-c", "exit 3"],
        on_failure_callback=explain,
        deferrable=True,
    )
    good >> bad


callbacks()
