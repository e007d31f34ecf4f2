"""Pods that print the secrets which their templates fetched."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None)
def secretive() -> None:
    for task_id, options in {
        "in_a_worker": {"deferrable": False},
        "ended_by_a_worker": {"deferrable": True},
        "ended_in_the_triggerer": {"deferrable": True, "end_from_trigger": True},
    }.items():
        KubernetesPodOperator(
            task_id=task_id,
            image="busybox:1.36",
            cmds=["sh", "-c"],
            arguments=['echo "the password is $PASSWORD, the token $TOKEN, the word $WORD"'],
            env_vars={
                "PASSWORD": "{{ conn.shop.password }}",
                "TOKEN": "{{ var.value.shop_token }}",
                "WORD": "{{ var.value.shop_word }}",
            },
            **options,
        )


secretive()
