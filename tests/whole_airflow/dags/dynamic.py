"""What Airflow decides when tasks run: mapping, templates, results of others, groups, setup and teardown, pools."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from airflow.sdk import DAG, task, task_group

from kpo_async.operators.pod import KubernetesPodOperator

POD: dict[str, Any] = {"image": "busybox:1.36", "cmds": ["sh", "-c"], "do_xcom_push": True, "deferrable": True}
RESULT = "/airflow/xcom/return.json"


def printed(what: str) -> list[str]:
    """The arguments of a pod whose result is the words of `what`, as the shell sees them."""
    return [f'echo "[\\"$(echo {what} | sed \'s/ /","/g\')\\"]" > {RESULT}']


with DAG(
    "dynamic",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    user_defined_macros={"shout": str.upper},
    render_template_as_native_obj=True,
):

    @task
    def keywords() -> list[dict[str, Any]]:
        return [{"env_vars": {"N": "1"}, "labels": {"n": "one"}}, {"env_vars": {"N": "2"}}]

    up = KubernetesPodOperator(task_id="up", arguments=[f"echo '\"ready\"' > {RESULT}"], **POD).as_setup()
    mapped = KubernetesPodOperator.partial(
        task_id="mapped",
        arguments=printed("$N {{ shout('loud') }}"),
        map_index_template="number {{ task.env_vars[0].value }}",
        **POD,
    ).expand_kwargs(keywords())

    @task_group
    def group(word: str) -> None:
        KubernetesPodOperator(
            task_id="results",
            env_vars={
                "UP": up.output,
                "{{ shout('pulled') }}": "{{ ti.xcom_pull(task_ids='up') }}",
                "WORD": word,
            },
            arguments=printed("$UP $PULLED $WORD {{ params.number }}"),
            params={"number": 7},
            **POD,
        )

    failing = KubernetesPodOperator(task_id="failing", arguments=["exit 3"], **POD)
    after = KubernetesPodOperator(task_id="after", arguments=printed("anyway"), trigger_rule="all_done", **POD)
    down = KubernetesPodOperator(task_id="down", arguments=printed("tidied"), **POD).as_teardown(setups=up)

    grouped = group.expand(word=["a", "b"])
    failing >> after
    up >> [mapped, grouped, failing]
    [mapped, grouped, after] >> down

with DAG("pooled", schedule=None, start_date=datetime(2026, 1, 1)):
    KubernetesPodOperator.partial(
        task_id="lives",
        arguments=[f"began=$(date +%s.%N); sleep 3; echo [$began, $(date +%s.%N)] > {RESULT}"],
        pool="narrow",
        **POD,
    ).expand(env_vars=[{"N": json.dumps(number)} for number in range(4)])
