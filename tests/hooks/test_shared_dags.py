"""A triggerer deserializes each DAG once."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_async.hooks import shared_dags
from kpo_async.hooks.airflow import FAILING_IN_TRIGGERER_RETRIES
from kpo_async.hooks.shared_dags import MOST, SharedDags
from kpo_async.operators.pod import KubernetesPodOperator
from tests.airflow_versions import DagSerialization


def encoded(dag_id: str = "dag", tasks: int = 1) -> dict[str, Any]:
    with DAG(dag_id, schedule=None) as dag:
        for number in range(tasks):
            KubernetesPodOperator(task_id=f"task_{number}")
    data: dict[str, Any] = DagSerialization.to_dict(dag)
    return data


@pytest.fixture
def shared() -> SharedDags:
    return SharedDags(lambda data: copy.copy(data))


def test_an_equal_dag_is_the_same_and_a_changed_one_is_not(shared: SharedDags) -> None:
    first = shared(encoded())
    assert shared(encoded()) is first
    assert shared(encoded("other")) is not first
    assert shared(encoded()) is first
    changed = shared(encoded(tasks=2))
    assert changed is not first
    assert shared(encoded(tasks=2)) is changed


def test_the_order_of_what_a_task_is_mapped_over_counts(shared: SharedDags) -> None:
    first = shared({"dag": {"dag_id": "dag", "expand": {"a": [1, 2], "b": [3, 4]}}})
    assert shared({"dag": {"dag_id": "dag", "expand": {"b": [3, 4], "a": [1, 2]}}}) is not first


@pytest.mark.parametrize("data", [{"dag": {"dag_id": "dag", "big": 2**70}}, {"no": "DAG"}])
def test_what_cannot_be_compared_is_deserialized_each_time(shared: SharedDags, data: dict[str, Any]) -> None:
    assert shared(data) is not shared(data)


def test_the_dag_that_was_not_asked_for_the_longest_goes(shared: SharedDags) -> None:
    data = [{"dag": {"dag_id": str(number)}} for number in range(MOST + 1)]
    kept = [shared(item) for item in data[:-1]]
    assert shared(data[0]) is kept[0]
    shared(data[-1])
    assert shared(data[0]) is kept[0]
    assert shared(data[1]) is not kept[1]


@pytest.fixture
def airflows() -> Iterator[Any]:
    own = vars(DagSerialization)["from_dict"]
    yield DagSerialization
    DagSerialization.from_dict = own


@pytest.mark.skipif(not FAILING_IN_TRIGGERER_RETRIES, reason="Airflow hands over no DAGs before")
def test_airflow_gets_the_same_dag_for_each_trigger(airflows: Any) -> None:
    shared_dags.install()
    shared_dags.install()
    data = encoded()
    first = airflows.from_dict(data)
    assert airflows.from_dict(copy.deepcopy(data)) is first
    assert first.get_task("task_0").task_id == "task_0"
    assert airflows.from_dict(encoded(tasks=2)).has_task("task_1")
