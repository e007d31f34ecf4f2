"""The `PodTask` that an operator's parameters become."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, BaseOperator

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.pod_task import for_deferral, pod_task_of
from kpo_async.pod_task import PodTask

CONTEXT: Any = {"ti": SimpleNamespace(id="id", dag_id="dag", task_id="task", run_id="run", try_number=1, map_index=-1)}
POD = {"metadata": {"name": "pod", "namespace": "jobs", "uid": "uid"}}


@pytest.mark.parametrize(
    ("parameters", "field", "value"),
    [
        ({"termination_grace_period": 30.0}, "grace_period", 30),
        ({"skip_on_exit_code": True}, "skip_on_exit_code", [1]),
        ({"skip_on_exit_code": [3.0]}, "skip_on_exit_code", [3]),
        ({"multiple_outputs": None}, "multiple_outputs", False),
        ({"log_pod_spec_on_failure": 1}, "spec_on_failure", True),
        ({"log_events_on_failure": 1}, "events_on_failure", True),
        ({"log_events_on_startup": 0}, "events_on_startup", False),
        ({"container_name_log_prefix_enabled": 1}, "logs.prefix", True),
        ({"container_logs": ("base", "other")}, "logs.containers", ["base", "other"]),
        ({"init_container_logs": {"init"}}, "logs.init_containers", ["init"]),
        ({"in_cluster": 1}, "cluster.in_cluster", True),
        ({"config_file": Path("/etc/kubeconfig")}, "cluster.config_file", "/etc/kubeconfig"),
        ({"end_from_trigger": 0}, "end_from_trigger", False),
        ({"poll_interval": 2}, "poll_interval", 2.0),
        ({"retry_on_disruption": None}, "retry_on_disruption", 0),
        ({"on_oom": {"memory": 2}}, "on_oom.memory", 2.0),
        ({"on_oom": {"memory": 1.5, "max": "1Gi"}}, "on_oom.max", "1Gi"),
    ],
)
def test_values_are_sent_with_the_types_that_the_triggerer_reads(
    parameters: dict[str, Any], field: str, value: object
) -> None:
    operator = KubernetesPodOperator(task_id="task", image="busybox", **parameters)
    task = for_deferral(operator, pod_task_of(operator, CONTEXT, POD, deadline=None), deferred_at=1.0)
    found: Any = PodTask.from_dict(json.loads(json.dumps(task.to_dict())))
    for name in field.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("ends", [True, False])
def test_a_triggerer_that_ends_the_task_knows_whether_others_are_mapped_over_its_result(ends: bool) -> None:
    with DAG("dag", schedule=None):
        alone = KubernetesPodOperator(task_id="alone", end_from_trigger=ends)
        mapped_over = KubernetesPodOperator(task_id="mapped_over", end_from_trigger=ends)
        KubernetesPodOperator.partial(task_id="mapped").expand(arguments=mapped_over.output)
    found = [pod_task_of(operator, CONTEXT, POD, deadline=None).mapped_over for operator in (alone, mapped_over)]
    assert found == [False, ends]


class Resuming(KubernetesPodOperator):
    def trigger_reentry(self, context: Any, event: Any) -> Any:
        return super().trigger_reentry(context, event)


class Posting(KubernetesPodOperator):
    def post_execute(self, context: Any, result: Any = None) -> None: ...


class Plain(KubernetesPodOperator):
    """Overrides nothing of the end."""

    def execute(self, context: Any) -> Any:
        return super().execute(context)


class WithContext(KubernetesPodOperatorCallback):
    @staticmethod
    def on_pod_completion(*, context: Any, **kwargs: Any) -> None: ...


class ContextForLines(KubernetesPodOperatorCallback):
    @staticmethod
    def progress_callback(*, line: str, context: Any, **kwargs: Any) -> None: ...


def deferred(kind: type[KubernetesPodOperator], parameters: dict[str, Any]) -> PodTask:
    operator = kind(task_id="task", image="busybox", end_from_trigger=True, **parameters)
    return for_deferral(operator, pod_task_of(operator, CONTEXT, POD, deadline=None), deferred_at=1.0)


@pytest.mark.parametrize(
    ("kind", "parameters", "reason"),
    [
        pytest.param(KubernetesPodOperator, {"outlets": [Asset("a")]}, "outlets", id="outlets"),
        pytest.param(KubernetesPodOperator, {"on_success_callback": print}, "on_success_callback", id="success"),
        pytest.param(KubernetesPodOperator, {"on_skipped_callback": print}, "on_skipped_callback", id="skipped"),
        pytest.param(KubernetesPodOperator, {"post_execute": print}, "post_execute", id="post_execute"),
        pytest.param(Posting, {}, "post_execute", id="an overridden post_execute"),
        pytest.param(Resuming, {}, "trigger_reentry", id="an overridden trigger_reentry"),
        pytest.param(KubernetesPodOperator, {"callbacks": [WithContext]}, "takes the operator or", id="a context"),
    ],
)
def test_a_worker_ends_a_task_whose_end_needs_one_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture, kind: type[KubernetesPodOperator], parameters: dict[str, Any], reason: str
) -> None:
    task = deferred(kind, parameters)
    assert not task.end_from_trigger
    assert task.logs is not None
    [message] = caplog.messages
    assert message.startswith("A worker ends this task in spite of end_from_trigger: it has ")
    assert reason in message


@pytest.mark.parametrize("parameters", [{}, {"on_failure_callback": print}, {"on_execute_callback": print}])
def test_the_triggerer_ends_a_task_whose_end_needs_no_worker(
    caplog: pytest.LogCaptureFixture, parameters: dict[str, Any]
) -> None:
    for kind in (KubernetesPodOperator, Plain):
        assert deferred(kind, parameters).end_from_trigger
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("parameters", "on_worker"),
    [
        ({}, False),
        ({"on_failure_callback": print}, True),
        ({"on_retry_callback": [print]}, True),
        ({"email": "team@example.org"}, True),
        ({"email": "team@example.org", "email_on_failure": False}, True),
        ({"email": "team@example.org", "email_on_failure": False, "email_on_retry": False}, False),
        ({"retry_policy": object()}, True),
    ],
)
@pytest.mark.filterwarnings("ignore:.*email")
def test_a_worker_fails_a_task_whose_failure_needs_one(parameters: dict[str, Any], on_worker: bool) -> None:
    if "retry_policy" in parameters and not hasattr(BaseOperator, "retry_policy"):
        pytest.skip("this Airflow has no retry policies")
    task = deferred(KubernetesPodOperator, parameters)
    assert task.end_from_trigger
    assert task.worker_ends_failure is on_worker


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_worker_fails_a_task_whose_dag_then_stops(fail_fast: bool) -> None:
    with DAG("dag", schedule=None, fail_fast=fail_fast):
        assert deferred(KubernetesPodOperator, {}).worker_ends_failure is fail_fast


def test_a_worker_shows_the_log_to_a_progress_callback_that_takes_the_context(caplog: pytest.LogCaptureFixture) -> None:
    assert deferred(KubernetesPodOperator, {"callbacks": [ContextForLines]}).logs is None
    assert any("takes `operator` or `context`" in message for message in caplog.messages)
