"""What needs the incumbent's names without it: `@task.kubernetes`, and a callback that takes a client."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.hooks.kubernetes import KubernetesHook
from kpo_async.operators.pod import KubernetesPodOperator


class Counting(KubernetesPodOperatorCallback):
    """Asks the API server by the synchronous client."""

    @staticmethod
    def on_pod_creation(*, pod: Any, client: Any, mode: str, **kwargs: Any) -> None:
        found = client.read_namespaced_pod(pod.metadata.name, pod.metadata.namespace)
        print("the callback sees pod", found.metadata.name)


with DAG("alone", schedule=None):

    @task.kubernetes(image="python:3.11-slim", deferrable=True, do_xcom_push=True)
    def decorated(number: int) -> int:
        return number + 1

    decorated(2)
    KubernetesPodOperator(
        task_id="called_back",
        image="busybox:1.36",
        cmds=["true"],
        deferrable=True,
        callbacks=Counting,
    )

    @task
    def hooked() -> str:
        return str(KubernetesHook(conn_id="kubernetes_default").get_namespace())

    hooked()
