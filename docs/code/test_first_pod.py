"""Tests of the DAG `first_pod`. They need no Kubernetes: `pytest test_first_pod.py`."""

from __future__ import annotations

from airflow.sdk import DAG
from first_pod import first_pod

from kpo_async.operators.pod import KubernetesPodOperator


def test_the_answer_reaches_the_next_task(run_dag):
    run = run_dag(first_pod())
    assert run.state == "success"
    assert run["show"].xcoms["return_value"] == 42
    assert any("hello from" in line for line in run["hello"].log)


def test_the_pod_is_followed_though_the_watch_breaks(run_dag, kpo_faults):
    with kpo_faults.cut(verb="watch", times=3):
        assert run_dag(first_pod()).state == "success"


def test_a_failure_says_why(run_dag, kpo_cluster):
    with DAG("failing") as dag:
        KubernetesPodOperator(task_id="work", image="busybox:1.36", cmds=["sh", "-c", "exit 3"], deferrable=True)
    run = run_dag(dag)
    assert run.state == "failed"
    assert run["work"].xcoms["pod_diagnosis"]["exit_code"] == 3
    assert kpo_cluster.pods() == []
