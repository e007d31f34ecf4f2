"""The start trigger, as a triggerer runs it, against the embedded cluster."""

from __future__ import annotations

import asyncio
import logging

import pytest
from airflow.sdk.execution_time.comms import GetTaskStates, SetXCom
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.operators.start_from_trigger import UNSTARTED
from tests.airflow_versions import starts_in_triggerer
from tests.factories import eventually
from tests.workerless.triggerer import (
    Deferred,
    Supervisor,
    are_gone_once_stored,
    fired,
    killed,
    pods,
)

pytestmark = starts_in_triggerer


async def test_it_creates_the_pod_and_ends_the_task(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    deferred = Deferred(
        local_cluster, "echo '{{ run_id }}' | sed 's/.*/\"&\"/' > /airflow/xcom/return.json", do_xcom_push=True
    )
    assert isinstance(await fired(deferred.trigger()), TaskSuccessEvent)
    assert supervisor.xcoms["task", "return_value"] == "run"
    assert supervisor.xcoms["task", "pod_name"].startswith("task-")
    await are_gone_once_stored(local_client, supervisor)


async def test_a_trigger_that_moves_after_the_create_makes_no_second_pod(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    deferred = Deferred(local_cluster, "sleep 2")
    trigger, running = deferred.start()

    async def created() -> bool:
        return len(await pods(local_client)) == 1

    await eventually(created)
    await killed(trigger, running)  # Airflow calls on_kill then, too; the task is still deferred
    [first] = await pods(local_client)
    assert isinstance(await fired(deferred.trigger()), TaskSuccessEvent)
    assert supervisor.xcoms["task", "pod_name"] == first


async def test_a_task_whose_end_was_not_stored_ends_again_as_its_pod_says(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    deferred = Deferred(local_cluster, "exit 3")
    for _ in range(2):
        assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
        assert len((await local_client.list("pods", "default"))["items"]) == 1
    await are_gone_once_stored(local_client, supervisor, "up_for_retry")


class Sweeper(KubernetesPodOperatorCallback):
    """A user's class that is called when the pod is gone."""

    @staticmethod
    async def on_pod_cleanup(**kwargs: object) -> None:
        pass


async def test_a_task_whose_end_was_not_stored_gets_no_second_pod_if_the_first_one_is_gone_for_a_callback(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    deferred = Deferred(local_cluster, "exit 3", callbacks=Sweeper)

    async def gone() -> bool:
        return not (await local_client.list("pods", "default"))["items"]

    for _ in range(2):
        assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
        await eventually(gone)  # a pod that still ends would tell the second trigger
    assert sum("using the verdict that it saved" in message for message in caplog.messages) == 1
    assert await pods(local_client) == []


async def test_a_second_try_starts_without_the_xcoms_of_the_first(
    local_cluster: LocalCluster, supervisor: Supervisor
) -> None:
    script = "{% if ti.try_number == 1 %}echo '{\"a\": 1}' > /airflow/xcom/return.json; exit 3{% endif %}"
    deferred = Deferred(local_cluster, script, do_xcom_push=True, multiple_outputs=True)
    assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
    assert {key for _, key in supervisor.xcoms} >= {"return_value", "a", "pod_diagnosis"}
    assert isinstance(await fired(deferred.trigger(try_number=2)), TaskSuccessEvent)
    assert {key for _, key in supervisor.xcoms} == {"pod_name", "pod_namespace"}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ("[1]", "the result is a list, multiple_outputs needs a JSON object"),
        ('{"a": {"__classname__": "x"}}', "Airflow does not store the XCom 'a': AttributeError: reserved key"),
    ],
)
async def test_a_result_that_airflow_does_not_take_fails_the_task_in_one_sentence(
    local_cluster: LocalCluster, supervisor: Supervisor, caplog: pytest.LogCaptureFixture, result: str, sentence: str
) -> None:
    script = f"echo '{result}' > /airflow/xcom/return.json"
    deferred = Deferred(local_cluster, script, do_xcom_push=True, multiple_outputs=True)
    assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
    assert sentence in caplog.text


async def test_a_task_does_not_fail_because_airflow_loses_its_database_for_a_moment(
    local_cluster: LocalCluster, supervisor: Supervisor
) -> None:
    deferred = Deferred(local_cluster, "echo 1 > /airflow/xcom/return.json", do_xcom_push=True)
    supervisor.outages.extend([SetXCom, GetTaskStates, SetXCom, SetXCom])
    assert isinstance(await fired(deferred.trigger()), TaskSuccessEvent)
    assert supervisor.xcoms["task", "return_value"] == 1
    assert supervisor.outages == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients retry their calls for half a second."""
    assert Client.__init__.__kwdefaults__
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "retry_budget", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_a_pod_is_created_once_the_api_server_is_back(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor
) -> None:
    deferred = Deferred(local_cluster, "true")
    with local_cluster.faults.fail(503, resource="pods", verb="create", times=12):
        assert isinstance(await fired(deferred.trigger()), TaskSuccessEvent)
    assert len((await local_client.list("pods", "default"))["items"]) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_task_fails_if_the_api_server_is_away_for_longer_than_its_pod_might_take_to_start(
    local_cluster: LocalCluster, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    deferred = Deferred(local_cluster, "true", startup_timeout_seconds=1)
    with local_cluster.faults.fail(503, resource="pods", verb="create"):
        assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
    assert "the server is currently unable to handle the request" in caplog.text


async def test_a_worker_that_starts_the_second_try_finds_no_xcoms_of_the_first(
    local_cluster: LocalCluster, supervisor: Supervisor
) -> None:
    supervisor.xcoms["task", "return_value"] = 1
    deferred = Deferred(local_cluster, "echo {{ ti.xcom_pull('doubled') }}")
    assert (await fired(deferred.trigger(try_number=2))).payload["status"] == UNSTARTED
    assert supervisor.xcoms == {}


async def test_lines_that_another_triggerer_may_have_shown_come_after_a_sentence_that_says_so(
    local_cluster: LocalCluster,
    local_client: Client,
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    # The pod's creation, to the second, is what the next triggerer knows of the one before.
    monkeypatch.setattr("kpo_async.pod_task.FIRST_START", 2.0)
    deferred = Deferred(local_cluster, "echo one; sleep 4")

    async def shown() -> bool:
        return "[base] one" in caplog.messages

    first, _ = deferred.start()[1], await asyncio.sleep(0)
    await eventually(shown)
    assert not any("are repeated" in message for message in caplog.messages)
    await asyncio.sleep(2)
    second = deferred.start()[1]
    assert isinstance(await second, TaskSuccessEvent)
    repeated = caplog.messages.index(
        "The log starts at its beginning: lines that another process may have shown before are repeated"
    )
    assert caplog.messages.index("[base] one") < repeated < len(caplog.messages)
    assert "[base] one" in caplog.messages[repeated:]
    first.cancel()
    await asyncio.wait([first])


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2, 0.5, 1.5])
async def test_a_task_that_its_user_ends_while_it_starts_leaves_no_pod(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, after: float
) -> None:
    trigger, running = Deferred(local_cluster, "sleep 1000").start()
    await asyncio.sleep(after)
    supervisor.state = "failed"
    await killed(trigger, running)

    async def gone() -> bool:
        return await pods(local_client) == []

    await eventually(gone)
    await asyncio.sleep(1)
    assert await gone()


async def test_a_task_that_waits_for_a_place_and_is_ended_starts_no_pod(
    local_cluster: LocalCluster,
    local_client: Client,
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__MAX_PODS", "1")
    first, running = Deferred(local_cluster, "sleep 1000").start()

    async def one_runs() -> bool:
        return len(await pods(local_client)) == 1

    async def waits() -> bool:
        return "Waiting for a place: 1 of 1 pods of this triggerer run" in caplog.messages

    await eventually(one_runs)
    second, waiting = Deferred(local_cluster, "true", name="second").start()
    await eventually(waits)
    supervisor.state = "failed"
    await killed(second, waiting)
    assert await one_runs()
    third = Deferred(local_cluster, "true", name="third").start()[1]
    await killed(first, running)  # its place is free
    assert isinstance(await third, TaskSuccessEvent)


async def test_a_template_that_a_triggerer_cannot_render_leaves_the_task_to_a_worker(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    deferred = Deferred(local_cluster, "echo {{ ti.xcom_pull('doubled') }}")
    assert (await fired(deferred.trigger())).payload["status"] == UNSTARTED
    assert "xcom_pull asks for all XComs of doubled, which is mapped" in caplog.text
    assert await pods(local_client) == []
