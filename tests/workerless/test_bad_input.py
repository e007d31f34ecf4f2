"""A task that cannot start in the triggerer fails there with the sentence of a worker, and leaves no pod."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from airflow import settings
from airflow.sdk import Param
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.hooks.airflow import AirflowSkipException
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.operators.start_from_trigger import UNSTARTED
from tests.airflow_versions import starts_in_triggerer
from tests.factories import eventually
from tests.workerless.triggerer import SIMULATED, Deferred, Supervisor, are_gone_once_stored, fired, pods

pytestmark = starts_in_triggerer


def only_one_pod(cluster: LocalCluster) -> None:
    """Limit the namespace."""
    spec = {"metadata": {"name": "small", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}}
    cluster.client.create("resourcequotas", spec)


@pytest.mark.parametrize("given", ["a callback of the task", "callbacks by default", "a DAG that fails fast"])
@pytest.mark.parametrize("expand", [None, {"hostname": ["one"]}])
@pytest.mark.parametrize(
    ("script", "name", "status"),
    [("exit 3", "name", "failed"), ("echo [1 > $XCOM", "name", "error"), ("true", "no/name", UNSTARTED)],
)
async def test_a_worker_fails_a_task_whose_failure_needs_one(
    local_cluster: LocalCluster, supervisor: Supervisor, given: str, expand: Any, script: str, name: str, status: str
) -> None:
    parameters: dict[str, Any] = {
        "a callback of the task": {"on_failure_callback": print},
        "callbacks by default": {"dag": {"default_args": {"on_failure_callback": print}}},
        "a DAG that fails fast": {"dag": {"fail_fast": True}},
    }[given]
    script = script.replace("$XCOM", "/airflow/xcom/return.json")
    deferred = Deferred(
        local_cluster, script, expand=expand, name=f"{{{{ '{name}' }}}}", do_xcom_push=True, **parameters
    )
    event = await fired(deferred.trigger(map_index=-1 if expand is None else 0))
    assert event.payload["status"] == status


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"hostname": "{{ 'not a name' }}"}, 'Invalid value: "not a name"'),
        ({"name": "{{ 'a/b' }}"}, "name"),
        ({"kubernetes_conn_id": "nowhere", "config_file": None}, "Connection 'nowhere' is not defined"),
        ({"config_file": "/no/such/file"}, "/no/such/file"),
        ({"container_resources": {"limits": {"memory": "{{ 'lots' }}"}}}, "quantities must match"),
    ],
)
async def test_a_task_that_contradicts_kubernetes_or_has_no_cluster_fails_and_says_why(
    local_cluster: LocalCluster,
    local_client: Client,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    parameters: dict[str, Any],
    sentence: str,
) -> None:
    deferred = Deferred(local_cluster, "true", **parameters)
    assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
    assert sentence in caplog.text
    assert await pods(local_client) == []


async def test_a_refused_create_is_diagnosed_in_an_xcom(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    only_one_pod(local_cluster)
    first = asyncio.create_task(fired(Deferred(local_cluster, "", annotations=SIMULATED).trigger()))

    async def runs() -> bool:
        return bool(await pods(local_client))

    await eventually(runs)
    refused = Deferred(local_cluster, "true", name="refused")
    assert isinstance(await fired(refused.trigger("other")), TaskFailedEvent)
    assert "exceeded quota: small" in caplog.text
    diagnosis = supervisor.xcoms["task", "pod_diagnosis"]
    assert diagnosis["category"] == "Quota"
    assert diagnosis["pod"].startswith("default/refused-")
    assert isinstance(await first, TaskSuccessEvent)


async def test_one_bad_map_index_fails_with_its_number_and_the_others_go_on(
    local_cluster: LocalCluster, local_client: Client, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    hostnames = ["a", "{{ 'not a name' }}", "c"]
    deferred = Deferred(local_cluster, "", annotations=SIMULATED, expand={"hostname": hostnames})
    events = await asyncio.gather(*(fired(deferred.trigger(map_index=index)) for index in range(3)))
    assert [type(event) for event in events] == [TaskSuccessEvent, TaskFailedEvent, TaskSuccessEvent]
    [error] = [message for message in caplog.messages if "not a name" in message]
    assert error.startswith("Map index 1: ")
    assert 'create pods "task-' in error
    assert len(await pods(local_client)) == 2
    await are_gone_once_stored(local_client, supervisor)


@pytest.mark.parametrize(
    ("xcom", "sentence"), [("text", "mapped over a str"), (None, "mapped over a NoneType"), ([], "mapped over nothing")]
)
async def test_what_nothing_can_be_mapped_over_fails_with_its_type(
    local_cluster: LocalCluster,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    xcom: Any,
    sentence: str,
) -> None:
    supervisor.xcoms["numbers", "return_value"] = xcom
    deferred = Deferred(local_cluster, "true", expand=lambda numbers, _: {"labels": numbers})
    assert isinstance(await fired(deferred.trigger(map_index=0)), TaskFailedEvent)
    assert f"Map index 0: labels is {sentence}" in caplog.text


async def test_a_pod_mutation_hook_that_raises_leaves_the_task_to_a_worker_which_shows_it(
    local_cluster: LocalCluster,
    supervisor: Supervisor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")

    def hook(pod: Any) -> None:
        raise ValueError("no pods today")

    monkeypatch.setattr(settings, "pod_mutation_hook", hook)
    assert (await fired(Deferred(local_cluster, "true").trigger())).payload["status"] == UNSTARTED
    assert "its manifest cannot be built here: ValueError: no pods today" in caplog.text


async def test_a_task_that_is_mapped_over_what_airflow_starts_it_by_is_left_to_a_worker(
    local_cluster: LocalCluster, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    deferred = Deferred(local_cluster, "true", expand={"pool": ["narrow", "wide"]})
    assert (await fired(deferred.trigger(map_index=0))).payload["status"] == UNSTARTED
    assert "it is mapped over pool, by which Airflow starts a task" in caplog.text


@pytest.mark.parametrize("expand", [None, {"arguments": [["true"]]}])
@pytest.mark.parametrize("of_dag", [True, False])
async def test_a_value_of_the_run_that_a_param_does_not_allow_fails_the_task_as_a_worker_would(
    local_cluster: LocalCluster,
    local_client: Client,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    of_dag: bool,
    expand: Any,
) -> None:
    params = {"params": {"n": Param(1, type="integer")}}
    parameters: dict[str, Any] = {"dag": params} if of_dag else params
    deferred = Deferred(local_cluster, "echo {{ params.n }}", expand=expand, **parameters)
    map_index = -1 if expand is None else 0
    trigger = deferred.trigger(map_index=map_index, conf={"n": "many"})
    assert isinstance(await fired(trigger), TaskFailedEvent)
    assert "Invalid input for param n: 'many' is not of type 'integer'" in caplog.text
    assert await pods(local_client) == []
    assert isinstance(await fired(deferred.trigger("other", map_index, conf={"n": 2})), TaskSuccessEvent)


class Broken(KubernetesPodOperatorCallback):
    """A user's class whose functions fail."""

    @staticmethod
    def on_pod_creation(*, operator: Any, **kwargs: Any) -> None:
        if operator.labels["fails"] == "exit":
            sys.exit(3)
        raise {"skip": AirflowSkipException, "key": KeyError}[operator.labels["fails"]]("dag_run")


@pytest.mark.parametrize(("fails", "words"), [("key", "KeyError: 'dag_run'"), ("exit", "SystemExit: 3")])
async def test_a_callback_that_raises_fails_the_task_with_its_name_and_leaves_no_pod(
    local_cluster: LocalCluster,
    local_client: Client,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    fails: str,
    words: str,
) -> None:
    deferred = Deferred(local_cluster, "sleep 1000", callbacks=Broken, labels={"fails": fails})
    assert isinstance(await fired(deferred.trigger()), TaskFailedEvent)
    assert f"the callback Broken.on_pod_creation raised {words}" in caplog.messages
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.getMessage() == "Traceback of the callback's error, for its author:"
    await are_gone_once_stored(local_client, supervisor, "failed")


async def test_a_callback_that_skips_the_task_leaves_it_to_a_worker(
    local_cluster: LocalCluster, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    deferred = Deferred(local_cluster, "sleep 1000", callbacks=Broken, labels={"fails": "skip"})
    assert (await fired(deferred.trigger())).payload["status"] == UNSTARTED
    assert "the callback Broken.on_pod_creation raised AirflowSkipException: dag_run" in caplog.text


async def test_an_xcom_backend_that_raises_leaves_the_task_to_a_worker_which_shows_it(
    local_cluster: LocalCluster,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no bucket today")

    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom.serialize_value", refuse)
    event = await fired(Deferred(local_cluster, "sleep 1000").trigger())
    assert event.payload["status"] == UNSTARTED
    assert "the triggerer could not: OSError('no bucket today')" in caplog.text
