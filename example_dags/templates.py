"""What is known only when the task runs: parameters of the run, results of other tasks, a pod template."""

from __future__ import annotations

from airflow.sdk import Param, dag, task

from kpo_async.operators.pod import KubernetesPodOperator

TEAM_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"labels": {"team": "data"}},
    "spec": {
        "containers": [{"name": "base", "env": [{"name": "REGION", "value": "eu"}]}],
        "terminationGracePeriodSeconds": 5,
    },
}


@dag(schedule=None, tags=["kpo-async"], params={"greeting": Param("hello", type="string")})
def templates() -> None:
    @task
    def name() -> str:
        return "world"

    KubernetesPodOperator(
        task_id="greet",
        image="busybox:1.36",
        # The template comes first; parameters go on top of it.
        pod_template_dict=TEAM_POD,
        cmds=["sh", "-c"],
        arguments=[
            'echo "\\"{{ params.greeting }} $NAME in $REGION on {{ dag.dag_id }}\\"" > /airflow/xcom/return.json'
        ],
        env_vars={"NAME": name()},
        labels={"greeting": "{{ params.greeting }}"},
        do_xcom_push=True,
        deferrable=True,
    )


templates()
