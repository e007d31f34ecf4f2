"""A triggerer deserializes each DAG once."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.executors import workloads
from airflow.jobs import triggerer_job_runner
from airflow.models.dagbag import DBDagBag
from airflow.sdk import DAG
from airflow.sdk.execution_time.comms import _ResponseFrame

from kpo_async.hooks import shared_dags
from kpo_async.hooks.airflow import FAILING_IN_TRIGGERER_RETRIES
from kpo_async.hooks.shared_dags import MOST, SharedDags, reading_once, receiving_dags_once, sending_dags_once
from kpo_async.operators.pod import KubernetesPodOperator
from tests.airflow_versions import DagSerialization


def encoded(dag_id: str = "dag", tasks: int = 1) -> dict[str, Any]:
    with DAG(dag_id, schedule=None) as dag:
        for number in range(tasks):
            KubernetesPodOperator(task_id=f"task_{number}")
    data: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(dag)))
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
    assert shared(data) is not shared(copy.deepcopy(data))


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


needs_dags = pytest.mark.skipif(not FAILING_IN_TRIGGERER_RETRIES, reason="Airflow hands over no DAGs before")


def run_trigger(number: int, data: dict[str, Any] | None) -> Any:
    return workloads.RunTrigger(id=number, classpath="Trigger", encrypted_kwargs="{}", dag_data=copy.deepcopy(data))


class Wire:
    """Sends messages as the triggerer's main process does, and receives them as its triggers' process does."""

    def __init__(self) -> None:
        self.frame = b""

    @sending_dags_once
    def send(self, msg: Any, request_id: int) -> None:
        self.frame = bytes(_ResponseFrame(id=request_id, body=msg.model_dump()).as_bytes()[4:])

    @receiving_dags_once
    async def receive(self) -> Any:
        body = msgspec.msgpack.decode(self.frame)[1]
        return triggerer_job_runner.messages.TriggerStateSync.model_validate(body)


@needs_dags
async def test_a_message_has_each_dag_once_and_each_trigger_gets_its_own() -> None:
    one, other = encoded(tasks=20), encoded("other", tasks=20)
    given = [one, None, other, one, other, one]
    wire = Wire()
    triggers = [run_trigger(number, data) for number, data in enumerate(given)]
    wire.send(triggerer_job_runner.messages.TriggerStateSync(to_create=triggers, to_cancel=set()), request_id=1)
    assert len(wire.frame) < 3 * len(msgspec.msgpack.encode(one))
    received = (await wire.receive()).to_create
    assert [(trigger.id, trigger.dag_data) for trigger in received] == list(enumerate(given))
    assert received[0].dag_data is received[3].dag_data


@needs_dags
async def test_a_dag_that_cannot_be_compared_is_sent_with_each_trigger() -> None:
    wire, data = Wire(), {"dag": {"dag_id": "dag", "big": 2**70}}
    triggers = [run_trigger(number, data) for number in range(2)]
    message = triggerer_job_runner.messages.TriggerStateSync(to_create=triggers, to_cancel=set())
    with pytest.raises(OverflowError):  # Airflow's own, as without this
        wire.send(message, request_id=1)
    assert [trigger.dag_data for trigger in message.to_create] == [data, data]


async def test_other_messages_pass() -> None:
    class Passing:
        @sending_dags_once
        def send(self, msg: Any) -> Any:
            return msg

        @receiving_dags_once
        async def receive(self, msg: Any) -> Any:
            return msg

    message = SimpleNamespace(answer=1)
    assert Passing().send(message) is message
    assert await Passing().receive(None) is None


class Bag:
    """Reads DAGs of runs from a database, as Airflow's does."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def get_serialized_dag_model_for_run(self, dag_run: Any, *, session: Any) -> Any:
        self.read.append(dag_run.id)
        return None if dag_run.id == 3 else [dag_run.id, session]


def test_the_dag_of_a_run_is_read_once_in_a_turn() -> None:
    bag = reading_once(Bag)()
    found = [bag.get_serialized_dag_model_for_run(SimpleNamespace(id=run), session="s") for run in (1, 2, 1, 3, 3)]
    assert found == [[1, "s"], [2, "s"], [1, "s"], None, None]
    assert found[0] is found[2]
    assert bag.read == [1, 2, 3]


@needs_dags
def test_airflows_triggerer_sends_like_this(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, supervisor = triggerer_job_runner.TriggerRunner, triggerer_job_runner.TriggerRunnerSupervisor
    # Another test of this process may have loaded the plugin.
    receive, send = inspect.unwrap(runner.asend), inspect.unwrap(supervisor.send_msg)
    monkeypatch.setattr(runner, "asend", receive)
    monkeypatch.setattr(supervisor, "send_msg", send)
    monkeypatch.setattr(triggerer_job_runner, "DBDagBag", DBDagBag)
    shared_dags.install()
    shared_dags.install()
    assert runner.asend.__wrapped__ is receive
    assert supervisor.send_msg.__wrapped__ is send
    assert triggerer_job_runner.DBDagBag.__base__ is DBDagBag
