"""Tests of a user's DAGs. `test_plugin.py` has a pytest of its own run them."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from airflow.sdk import DAG, task

from kpo_async.operators.pod import KubernetesPodOperator

POD: dict[str, Any] = {"image": "busybox:1.36", "cmds": ["sh", "-c"], "do_xcom_push": True}
MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "ended": {"deferrable": True, "end_from_trigger": True},
    "workerless": {"deferrable": True, "end_from_trigger": True, "start_from_trigger": True},
}
# Before the first test starts the triggerer, which gets it, too.
os.environ["AIRFLOW_CONN_SHOP"] = json.dumps(
    {"conn_type": "http", "password": "hunter-two", "extra": {"token": "t0k3n"}}
)


def test_every_mode_at_once(run_dag, kpo_cluster):
    with DAG("modes") as dag:
        pods = [
            KubernetesPodOperator(
                task_id=name, arguments=["echo hi; echo 1 > /airflow/xcom/return.json"], **POD, **mode
            )
            for name, mode in MODES.items()
        ]
        mapped = KubernetesPodOperator.partial(
            task_id="mapped",
            arguments=["printf 'a\\342\\200\\250b\\n'; echo '{\"text\": \"'$N'\"}' > /airflow/xcom/return.json"],
            multiple_outputs=True,
            deferrable=True,
            **POD,
        ).expand(env_vars=[{"N": "1"}, {"N": "2"}])

        @task
        def add_up(numbers):
            return sum(numbers)

        add_up([*(pod.output for pod in pods)]) << mapped
    run = run_dag(dag, timeout=200)  # Airflow 3.1 makes an API for each task: 5 s and more
    assert {name: task.state for name, task in run.tasks.items()} == dict.fromkeys(run.tasks, "success")
    assert run["add_up"].xcoms["return_value"] == 4
    assert run["mapped[1]"].xcoms["text"] == "2"
    assert any("a\u2028b" in line for line in run["mapped[1]"].log)
    for name in MODES:
        assert sum(line.endswith("hi") for line in run[name].log) == 1, run[name].log
    for _ in range(100):  # a triggerer deletes a pod when Airflow has stored the end of its task
        if not kpo_cluster.pods():
            break
        time.sleep(0.2)
    assert kpo_cluster.pods() == []


def test_a_triggerer_masks_what_templates_have_read(run_dag):
    with DAG("secretive") as dag:
        KubernetesPodOperator(
            task_id="prints",
            arguments=['echo "password $PASSWORD, token $TOKEN"'],
            env_vars={"PASSWORD": "{{ conn.shop.password }}", "TOKEN": "{{ conn.shop.extra_dejson.token }}"},
            deferrable=True,
            end_from_trigger=True,
            **POD | {"do_xcom_push": False},
        )
    run = run_dag(dag)
    assert run.state == "success"
    assert [line for line in run["prints"].log if "password" in line] == ["[base] password ***, token ***"]


def test_retries_skips_and_conf(run_dag):
    with DAG("outcomes", params={"code": 0}) as dag:
        KubernetesPodOperator(task_id="skipped", arguments=["exit {{ params.code }}"], skip_on_exit_code=9, **POD)
        KubernetesPodOperator(
            task_id="failed",
            arguments=["exit 3"],
            retries=1,
            retry_delay=0,
            deferrable=True,
            end_from_trigger=True,
            **POD,
        )
    run = run_dag(dag, {"code": 9})
    assert {name: (task.state, task.tries) for name, task in run.tasks.items()} == {
        "skipped": ("skipped", 1),
        "failed": ("failed", 2),
    }
    assert run.state == "failed"


def test_a_run_that_takes_too_long(run_dag):
    with DAG("long") as dag:
        KubernetesPodOperator(task_id="sleeps", arguments=["sleep 60"], deferrable=True, **POD)
    with pytest.raises(TimeoutError, match="'sleeps': 'deferred'"):
        run_dag(dag, timeout=5)


async def test_an_event_loop_is_refused(run_dag):
    with pytest.raises(RuntimeError, match="def test_"):
        run_dag(DAG("unused"))
