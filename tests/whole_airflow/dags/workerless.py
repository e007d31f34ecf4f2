"""Tasks that start and end in the triggerer: plain, templated, mapped over literals and over XComs, failing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, task
from kubernetes.client import models

from kpo_async.operators.pod import KubernetesPodOperator

POD: dict[str, Any] = {
    "image": "busybox:1.36",
    "cmds": ["sh", "-c"],
    "do_xcom_push": True,
    "deferrable": True,
    "start_from_trigger": True,
    "end_from_trigger": True,
}
RESULT = "/airflow/xcom/return.json"
ITEMS = ["a", "b c", "{{ not_a_template }}"]
MANY = 40


def printed(what: str) -> list[str]:
    """The arguments of a pod whose result is the text `what`, as the shell sees it."""
    return [f'echo "\\"{what}\\"" > {RESULT}; echo "said {what}"']


with DAG("workerless", schedule=None, start_date=datetime(2026, 1, 1), default_args={"labels": {"team": "t"}}):
    plain = KubernetesPodOperator(
        task_id="plain",
        arguments=printed("$N {{ run_id }} {{ params.word }} {{ var.value.get('none', 'unset') }} {{ ti.task_id }}"),
        env_vars=[models.V1EnvVar(name="N", value="{{ params.word }}")],
        volumes=[models.V1Volume(name="empty", empty_dir=models.V1EmptyDirVolumeSource())],
        tolerations=[models.V1Toleration(key="x")],
        params={"word": "loud"},
        **POD,
    )
    pulled = KubernetesPodOperator(
        task_id="pulled",
        arguments=printed("$ARG {{ ti.xcom_pull('plain') }} {{ ti.xcom_pull(task_ids='plain', key='pod_namespace') }}"),
        env_vars={"ARG": plain.output},
        **POD,
    )
    KubernetesPodOperator.partial(task_id="product", arguments=printed("$A $B {{ ti.map_index }}"), **POD).expand(
        env_vars=[{"A": "1", "B": letter} for letter in "xy"], labels=[{"n": "1"}, {"n": "2"}, {"n": "3"}]
    )
    KubernetesPodOperator.partial(task_id="listed", **POD).expand_kwargs(
        [{"arguments": printed("one")}, {"arguments": printed("{{ params.word }}"), "params": {"word": "two"}}]
    )

    @task
    def commands() -> list[list[str]]:
        return [printed(item) for item in ITEMS]

    KubernetesPodOperator.partial(task_id="over_xcom", **POD).expand(arguments=commands())

    letters = KubernetesPodOperator(
        task_id="letters", arguments=[f"""echo '[{{"W": "l"}}, {{"W": "m"}}]' > {RESULT}"""], **POD
    ).output

    @task
    def words(word: str | None) -> dict[str, str] | None:
        return {"W": word} if word else None

    @task
    def scripts(word: str) -> str:
        return printed(f"{word} $0")[0]

    @task
    def numbers() -> list[str]:
        return ["1", "2"]

    said = {"arguments": printed("$W {{ ti.map_index }}"), **POD}
    KubernetesPodOperator.partial(task_id="over_pod", **said).expand(env_vars=letters)
    KubernetesPodOperator.partial(task_id="chained", **said).expand(
        env_vars=letters.concat(words.expand(word=["v", "w"]))
    )
    KubernetesPodOperator.partial(task_id="sparse", **said).expand(
        env_vars=words.override(task_id="some_words").expand(word=["v", None, "w"])
    )
    KubernetesPodOperator.partial(task_id="zipped", **POD).expand(
        arguments=scripts.expand(word=["v", "w"]).zip(numbers())
    )
    KubernetesPodOperator.partial(task_id="never_mapped", **said).expand(
        env_vars=KubernetesPodOperator(task_id="unmappable", arguments=[f"echo 1 > {RESULT}"], **POD).output
    )
    KubernetesPodOperator(
        task_id="retried",
        arguments=["exit $(( 2 - {{ ti.try_number }} ))"],
        retries=1,
        retry_delay=timedelta(seconds=1),
        **POD,
    )
    KubernetesPodOperator(task_id="ended_by_worker", arguments=printed("half"), **{**POD, "end_from_trigger": False})
    KubernetesPodOperator(task_id="skipped", arguments=["exit 99"], skip_on_exit_code=99, **POD)
    KubernetesPodOperator(task_id="broken", arguments=["{{ nothing.there }}"], **POD)
    KubernetesPodOperator(task_id="contradicted", arguments=["true"], hostname="{{ 'not a name' }}", **POD)
    KubernetesPodOperator(task_id="unconnected", arguments=["true"], **{**POD, "kubernetes_conn_id": "nowhere"})

with DAG("many", schedule=None, start_date=datetime(2026, 1, 1), params={"seconds": Param(5, type="integer")}):
    KubernetesPodOperator.partial(task_id="sleep", **{**POD, "do_xcom_push": False}).expand(
        arguments=[["sleep {{ params.seconds }}"] for _ in range(MANY)]
    )
