"""Pods that are gone, and what the command line tells of them. `test_stories.py` runs this in a pytest of its own."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta

from airflow.models.dagrun import DagRun
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import select

from kpo_async import KubernetesPodOperator
from kpo_async.testing.cluster import Cluster
from tests.commands.conftest import PROGRAM


def kpo_async(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with this Airflow's environment."""
    return subprocess.run([*PROGRAM, *words], capture_output=True, text=True, check=False, timeout=60)


def run_id_of(dag: DAG) -> str:
    with create_session() as session:
        return str(session.scalars(select(DagRun.run_id).where(DagRun.dag_id == dag.dag_id)).one())


def test_a_deferred_task_that_failed(run_dag) -> None:
    with DAG("deferred", schedule=None) as dag:
        KubernetesPodOperator(
            task_id="fail",
            image="busybox:1.36",
            cmds=["sh", "-c", "i=0; while [ $i -lt 25 ]; do i=$((i + 1)); echo line $i; sleep 1; done; exit 3"],
            deferrable=True,
        )
    assert run_dag(dag).state == "failed"
    task = ("deferred", "fail", run_id_of(dag))
    told = kpo_async("diagnose", *task, "--output", "json")
    story = json.loads(told.stdout)
    assert (told.returncode, told.stderr) == (1, "")
    assert (story["exists"], story["state"], story["diagnosis"]["category"]) == (False, "failed", "ExitCode")
    log = kpo_async("logs", *task)
    assert log.returncode == 0
    assert "is gone: this is the log of deferred.fail" in log.stderr
    assert "[base] line 25" in log.stdout


def test_a_kept_pod_of_an_earlier_try_is_not_taken_for_that_of_the_last(run_dag, kpo_cluster: Cluster) -> None:
    with DAG("recovered", schedule=None) as dag:
        KubernetesPodOperator(
            task_id="again",
            image="busybox:1.36",
            cmds=["sh", "-c", "exit {{ 3 if ti.try_number == 1 else 0 }}"],
            on_finish_action="delete_succeeded_pod",
            retries=1,
            retry_delay=timedelta(0),
            deferrable=False,
        )
    assert run_dag(dag).state == "success"
    assert len(kpo_cluster.pods()) == 1
    task = ("recovered", "again", run_id_of(dag))
    last = kpo_async("diagnose", *task, "--output", "json")
    story = json.loads(last.stdout)
    assert (last.returncode, story["exists"], story["state"], story["try_number"]) == (0, False, "success", 2)
    first = kpo_async("diagnose", *task, "--try", "1", "--output", "json")
    assert (first.returncode, json.loads(first.stdout)["category"]) == (1, "ExitCode")


def test_the_database_says_where_to_look(run_dag) -> None:
    with DAG("looked_for", schedule=None) as dag:
        KubernetesPodOperator(task_id="work", image="busybox:1.36", cmds=["true"], deferrable=False)
    assert run_dag(dag).state == "success"
    listed = kpo_async("ps", "--output", "json")
    assert (listed.returncode, json.loads(listed.stdout)) == (0, [])
    collected = kpo_async("gc", "--yes", "--output", "json")
    assert (collected.returncode, json.loads(collected.stdout)) == (0, [])
    refused = kpo_async("diagnose", "looked_for", "none", run_id_of(dag))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "DAG 'looked_for' has no task 'none' in run" in refused.stderr
