"""Which tasks start in the triggerer, and the arguments that cross."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param, task, task_group
from kubernetes.client import models

from kpo_async.exceptions import ConfigError
from kpo_async.models import ModelDict
from kpo_async.operators.plain import XComReference, decode, encode
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.start_from_trigger import reason_for_worker
from kpo_async.secret import Secret
from tests.airflow_versions import starts_in_triggerer

POD: dict[str, Any] = {"image": "busybox:1.36", "deferrable": True, "start_from_trigger": True}


class Named(KubernetesPodOperator):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.labels = {"named": "here"}


class Overriding(KubernetesPodOperator):
    def build_pod_request_obj(self, *args: Any, **kwargs: Any) -> Any:
        return super().build_pod_request_obj(*args, **kwargs)


@starts_in_triggerer
def test_what_differs_from_the_defaults_crosses_as_json_and_unrendered() -> None:
    operator = Named(
        task_id="task",
        arguments=["{{ ds }}"],
        volumes=[models.V1Volume(name="e", empty_dir=models.V1EmptyDirVolumeSource())],
        secrets=[Secret("env", "A", "secret", "key")],
        on_finish_action="keep_pod",
        **POD,
    )
    assert operator.start_from_trigger is True
    given = json.loads(operator.start_trigger_args.trigger_kwargs["start"])["parameters"]
    assert (given["arguments"], given["labels"], given["on_finish_action"]) == (
        ["{{ ds }}"],
        {"named": "here"},
        "keep_pod",
    )
    assert "tolerations" not in given
    [volume] = decode(given["volumes"])
    assert (volume, type(volume), type(volume["emptyDir"])) == ({"name": "e", "emptyDir": {}}, ModelDict, ModelDict)
    assert Secret.of(given["secrets"][0]) == Secret("env", "A", "secret", "key")


def test_references_to_xcoms_and_callables_cross() -> None:
    with DAG("dag", schedule=None):
        upstream = KubernetesPodOperator(task_id="up", **POD)
    assert decode(encode([upstream.output])) == [XComReference("up", "return_value")]
    assert decode(encode(json.dumps)) is json.dumps


@pytest.mark.parametrize("multiple_outputs", [True, False])
def test_a_key_that_a_task_need_not_push_is_missed_as_on_a_worker(multiple_outputs: bool) -> None:
    with DAG("dag", schedule=None):
        upstream = KubernetesPodOperator(task_id="up", multiple_outputs=multiple_outputs, **POD)
    reference = decode(encode(upstream.output["a"]))
    nothing = {"ti": SimpleNamespace(xcom_pull=lambda **_: None)}
    if multiple_outputs:
        assert reference.resolve(nothing) is None
    else:
        with pytest.raises(LookupError, match="task 'up' has pushed no XCom 'a'"):
            reference.resolve(nothing)


@starts_in_triggerer
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"pool": "narrow"}, "pool 'narrow' limits workers only"),
        ({"pre_execute": print}, "only a worker calls pre_execute"),
        ({"on_execute_callback": print}, "only a worker calls on_execute_callback"),
        ({"max_active_tis_per_dag": 1}, "max_active_tis_per_dag limits workers only"),
        ({"log_formatter": lambda container, line: line}, "log_formatter cannot be imported in the triggerer"),
        ({"pod_template_file": "/pod.yaml"}, "pod_template_file may not exist in the triggerer"),
        ({"volumes": [models.V1Volume(name="v", host_path={"path": "{{"})]}, "volumes has a V1Volume with a literal"),
    ],
)
def test_a_worker_starts_what_a_triggerer_cannot(parameters: dict[str, Any], reason: str) -> None:
    operator = KubernetesPodOperator(task_id="task", **POD, **parameters)
    assert operator.start_from_trigger is False
    assert operator.start_trigger_args is None
    assert reason in (reason_for_worker(operator) or "")


@starts_in_triggerer
def test_a_worker_starts_a_class_that_overrides_a_method() -> None:
    operator = Overriding(task_id="task", **POD)
    assert reason_for_worker(operator) == "Overriding overrides build_pod_request_obj"


@starts_in_triggerer
def test_a_worker_starts_tasks_of_mapped_groups_of_large_dags_and_of_dags_with_macros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with DAG("dag", schedule=None):

        @task_group
        def group(word: str) -> None:
            KubernetesPodOperator(task_id="in_group", arguments=[word], **POD)

        group.expand(word=["a", "b"])
        operator = KubernetesPodOperator(task_id="task", **POD)
    grouped = operator.dag.get_task("group.in_group")
    assert reason_for_worker(grouped) == "it is in a mapped task group"
    assert reason_for_worker(operator) is None
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__START_FROM_TRIGGER_DAG_SIZE", "1")
    assert "its DAG has 2 tasks" in (reason_for_worker(operator) or "")
    with DAG("other", schedule=None, user_defined_macros={"shout": str.upper}):
        assert "user_defined_macros" in (reason_for_worker(KubernetesPodOperator(task_id="task", **POD)) or "")


def test_a_worker_starts_every_task_before_airflow_3_3_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_async.hooks.airflow.FAILING_IN_TRIGGERER_RETRIES", False)
    monkeypatch.setattr("kpo_async.hooks.airflow.AIRFLOW_VERSION", "3.2.2")
    operator = KubernetesPodOperator(task_id="task", **POD)
    assert (operator.start_from_trigger, operator.start_trigger_args) == (False, None)
    assert reason_for_worker(operator) == "Airflow 3.2.2 cannot: 3.3.1 is needed"
    with DAG("dag", schedule=None):
        mapped = KubernetesPodOperator.partial(task_id="mapped", **POD).expand(arguments=[["a"]])
    assert (mapped.start_from_trigger, mapped.start_trigger_args) == (False, None)


def test_a_task_that_cannot_defer_is_refused() -> None:
    with pytest.raises(ConfigError, match="task 'task': start_from_trigger=True needs deferrable=True"):
        KubernetesPodOperator(task_id="task", start_from_trigger=True, deferrable=False)
    with pytest.raises(ConfigError, match="task 'task': start_from_trigger=True needs deferrable=True"):
        KubernetesPodOperator.partial(task_id="task", start_from_trigger=True, deferrable=False).expand(cmds=[["a"]])


@starts_in_triggerer
def test_the_deployment_has_a_default_for_deferrable_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__START_FROM_TRIGGER", "true")
    given = {"image": "busybox:1.36", "task_id": "task"}
    assert KubernetesPodOperator(deferrable=True, **given).start_from_trigger is True
    assert KubernetesPodOperator(deferrable=False, **given).start_from_trigger is False
    assert KubernetesPodOperator(deferrable=True, start_from_trigger=False, **given).start_from_trigger is False


Expand = Callable[[Any], Any]


@starts_in_triggerer
@pytest.mark.parametrize(
    ("expand", "starts"),
    [
        (lambda partial: partial.expand(arguments=[["a"], ["b"]]), True),
        (lambda partial: partial.expand_kwargs([{"arguments": ["a"]}]), True),
        (lambda partial: partial.expand(arguments=lists()), True),
        (lambda partial: partial.expand_kwargs(lists()), True),
        (lambda partial: partial.expand(arguments=lists().map(list)), False),
        (lambda partial: partial.expand(arguments=lists().zip(lists(), fillvalue=1)), False),
        (lambda partial: partial.expand(arguments=lists().zip(doubled.expand(number=lists()))), True),
        (lambda partial: partial.expand(arguments=lists().concat(doubled.expand(number=lists()))), True),
        (lambda partial: partial.expand(arguments=lists().concat(lists().map(list))), False),
        (lambda partial: partial.expand(arguments=doubled.expand(number=lists())), True),
        (lambda partial: partial.expand_kwargs([lists()]), True),
        (lambda partial: partial.expand_kwargs([doubled.expand(number=lists())]), False),
        (lambda partial: partial.expand(volumes=[[models.V1Volume(name="x")]]), False),
    ],
)
def test_mapped_tasks_start_in_the_triggerer_where_it_can_read_what_they_are_mapped_over(
    expand: Expand, starts: bool
) -> None:
    with DAG("dag", schedule=None, default_args={"namespace": "theirs"}):
        partial = KubernetesPodOperator.partial(task_id="task", tolerations=[models.V1Toleration(key="x")], **POD)
        mapped = expand(partial)
    assert mapped.start_from_trigger is starts
    if starts:
        given = json.loads(mapped.start_trigger_args.trigger_kwargs["start"])["parameters"]
        assert given["namespace"] == "theirs"
        assert decode(given["tolerations"]) == [{"key": "x"}]
        assert "arguments" not in given


@starts_in_triggerer
def test_the_worker_that_starts_an_instance_of_a_mapped_task_says_why() -> None:
    with DAG("dag", schedule=None):
        mapped = KubernetesPodOperator.partial(task_id="task", **POD).expand(arguments=lists().map(list))
    instance = mapped.unmap({"arguments": ["a"]})
    reason = "the triggerer cannot read what it is mapped over: map(), whose functions only a worker has"
    assert reason_for_worker(instance) == reason


@starts_in_triggerer
def test_a_worker_starts_a_task_with_a_param_without_a_default() -> None:
    with DAG("dag", schedule=None):
        params = {"n": Param(type="integer"), "none": Param(None, type=["null", "string"])}
        operator = KubernetesPodOperator(task_id="task", params=params, **POD)
        partial = KubernetesPodOperator.partial(task_id="mapped", params=params, **POD)
        assert reason_for_worker(operator) == "its param 'n' has no default"
        assert partial.expand(arguments=[["a"]]).start_from_trigger is False


@task
def lists() -> list[list[str]]:
    return [["a"], ["b"]]


@task
def doubled(number: Any) -> Any:
    return number
