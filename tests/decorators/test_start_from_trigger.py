"""Decorated tasks that start in the triggerer: what crosses, and what a worker starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from airflow.sdk import DAG, task

from kpo_async.decorators.kubernetes import kubernetes_task
from kpo_async.decorators.kubernetes_cmd import kubernetes_cmd_task
from kpo_async.operators.start_from_trigger import reason_for_worker
from tests.airflow_versions import starts_in_triggerer
from tests.decorators.commands import listing

pytestmark = starts_in_triggerer

POD: dict[str, Any] = {"image": "busybox:1.36", "deferrable": True, "start_from_trigger": True}


def add(number: Any, more: Any = 2, *, run_id: str | None = None) -> Any:
    return [number, more, run_id]


@task
def numbers() -> list[int]:
    return [1, 2]


def sent(operator: Any) -> dict[str, Any]:
    """The parameters that the trigger of a task is given."""
    found: dict[str, Any] = json.loads(operator.start_trigger_args.trigger_kwargs["start"])["parameters"]
    return found


def test_a_function_crosses_as_its_source_with_its_unrendered_arguments() -> None:
    with DAG("dag", schedule=None) as dag:
        kubernetes_task(**POD)(add)("{{ ds }}", more=numbers())
    given = sent(dag.get_task("add"))
    assert "return [number, more, run_id]" in given["python_callable"]["text"]
    assert given["op_args"] == ["{{ ds }}"]
    assert given["op_kwargs"] == {"more": {"kpo_async": "xcom", "task_id": "numbers", "key": "return_value"}}


@pytest.mark.parametrize("call", [lambda f: f.expand(number=[1, 2]), lambda f: f.expand_kwargs([{"number": 1}])])
def test_a_mapped_function_starts_in_the_triggerer_with_its_shared_arguments(call: Callable[[Any], Any]) -> None:
    with DAG("dag", schedule=None, default_args={"number": 7, "image": "other"}) as dag:
        call(kubernetes_task(**POD)(add).partial(more=numbers()))
    mapped = dag.get_task("add")
    assert mapped.start_from_trigger is True
    given = sent(mapped)
    assert (given["image"], given["op_args"], given["op_kwargs"]["number"]) == ("busybox:1.36", [], 7)
    assert given["op_kwargs"]["more"]["task_id"] == "numbers"


@pytest.mark.parametrize(
    ("settings", "argument", "reason"),
    [
        ({}, date(2026, 1, 1), "an argument of its function holds a date"),
        ({}, (1, 2), "an argument of its function holds a tuple"),
        ({"serializer": "cloudpickle"}, 1, "serializer='cloudpickle' may need the objects of the DAG file"),
        ({"pool": "narrow"}, 1, "pool 'narrow' limits workers only"),
    ],
)
def test_a_worker_starts_a_function_whose_arguments_would_arrive_changed(
    settings: dict[str, Any], argument: Any, reason: str
) -> None:
    with DAG("dag", schedule=None) as dag:
        kubernetes_task(**POD, **settings)(add)(argument)
        kubernetes_task(**POD, **settings, task_id="mapped")(add).partial(number=argument).expand(more=[1])
    assert reason in (reason_for_worker(dag.get_task("add")) or "")
    assert dag.get_task("mapped").start_from_trigger is False


def test_a_worker_starts_a_function_that_has_no_source_to_send() -> None:
    here = 1

    def closure() -> int:
        return here

    with DAG("dag", schedule=None) as dag:
        kubernetes_task(**POD)(closure)()
    assert "uses variables of the function around it" in (reason_for_worker(dag.get_task("closure")) or "")


def test_a_command_starts_in_the_triggerer_if_its_function_can_be_imported_there() -> None:
    def in_the_dag_file() -> list[str]:
        return ["true"]

    with DAG("dag", schedule=None) as dag:
        kubernetes_cmd_task(**POD)(listing)("{{ ds }}")
        kubernetes_cmd_task(**POD)(in_the_dag_file)()
    assert sent(dag.get_task("listing"))["python_callable"]["path"] == "tests.decorators.commands:listing"
    assert "cannot be imported in the triggerer" in (reason_for_worker(dag.get_task("in_the_dag_file")) or "")
