"""Pods that end at once: their triggers fire as soon after the deferral as a trigger can."""

from __future__ import annotations

from airflow.sdk import Param, dag, get_current_context, task

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None, params={"pods": Param(100, type="integer")})
def short_pods() -> None:
    @task
    def numbers() -> list[dict[str, str]]:
        return [{"NUMBER": str(number)} for number in range(get_current_context()["params"]["pods"])]

    KubernetesPodOperator.partial(
        task_id="short", image="busybox:1.36", cmds=["true"], deferrable=True, startup_timeout_seconds=300
    ).expand(env_vars=numbers())


short_pods()
