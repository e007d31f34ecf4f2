"""The trigger, as a triggerer runs it, against the embedded cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.log import redact
from airflow.triggers.base import BaseTaskEndEvent, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent

from kpo_async import lifecycle
from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.compat import timeout
from kpo_async.hooks.airflow import FAILING_IN_TRIGGERER_RETRIES, AirflowSkipException, deferral_settles_after
from kpo_async.kube.client import Client
from kpo_async.lifecycle import task_log
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod_task import ClusterRef, Outcome, OutcomeStatus, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
from tests.factories import identity, manifest, owner, pod_exists, pod_task
from tests.triggers.triggerer import Supervisor, pods_finished, supervised, task_instance


async def task_for(cluster: LocalCluster, client: Client, script: str, **terms: object) -> PodTask:
    task = identity()
    pod = await lifecycle.ensure_pod(client, manifest(task, script), owner(task))
    return pod_task(pod, str(cluster.kubeconfig), **terms)


async def wait_for_line(text: str) -> None:
    """Wait until a record of the task's log has `text` in it."""
    seen = asyncio.Event()
    handler = logging.Handler()
    handler.emit = lambda record: seen.set() if text in record.getMessage() else None  # type: ignore[method-assign]
    logger = logging.getLogger("kpo_async.pod_log")
    logger.addHandler(handler)
    async with timeout(20):
        await seen.wait()
    logger.removeHandler(handler)


async def fired(task: PodTask) -> list[dict]:
    """Every event of a trigger that went through Airflow's database."""
    path, arguments = KubernetesPodTrigger(task.to_dict()).serialize()
    assert path == "kpo_async.triggers.pod.KubernetesPodTrigger"
    trigger = KubernetesPodTrigger(**json.loads(json.dumps(arguments)))
    return [event.payload async for event in trigger.run()]


async def ending(task: PodTask, monkeypatch: pytest.MonkeyPatch) -> TriggerEvent:
    """Return the event of a trigger that knows its task instance, so that it may end the task, once that is stored."""
    trigger = KubernetesPodTrigger(task.to_dict())
    trigger.task_instance = task_instance(identity())  # type: ignore[assignment]
    with supervised(monkeypatch, Supervisor()) as supervisor:
        [event] = [event async for event in trigger.run()]
        supervisor.state = event.task_instance_state if isinstance(event, BaseTaskEndEvent) else "scheduled"
        await pods_finished()
    return event


def fails_task(event: TriggerEvent) -> bool:
    """Whether the triggerer fails the task. Before Airflow 3.3.1 a worker does, and the event has the message."""
    assert isinstance(event, TaskFailedEvent) is FAILING_IN_TRIGGERER_RETRIES
    return FAILING_IN_TRIGGERER_RETRIES


async def test_it_fires_one_event_with_the_outcome(local_cluster: LocalCluster, local_client: Client) -> None:
    task = await task_for(local_cluster, local_client, "exit 4", user_event={"extra": "mine", "name": "mine"})
    [event] = await fired(task)
    assert (event["status"], event["name"], event["uid"], event["extra"]) == (
        "failed",
        task.name,
        task.uid,
        "mine",
    )
    assert Outcome.from_dict(event["outcome"]).exit_code == 4


async def test_a_connection_that_cannot_be_used_is_an_error_and_not_a_crash() -> None:
    task = PodTask("pod", "default", "uid", cluster=ClusterRef(config_file="/no/such/kubeconfig"))
    [event] = await fired(task)
    assert event["status"] == "error"
    assert "/no/such/kubeconfig" in event["message"]


async def test_a_task_that_has_just_deferred_is_not_resumed_too_soon(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    ago = deferral_settles_after() - 1.5
    task = await task_for(local_cluster, local_client, "true", deferred_at=time.time() - ago)
    before = time.time()
    await fired(task)
    assert time.time() - task.deferred_at >= deferral_settles_after()
    assert time.time() - before < 5


async def test_the_event_of_a_long_pod_is_not_delayed(local_cluster: LocalCluster, local_client: Client) -> None:
    task = await task_for(local_cluster, local_client, "true", deferred_at=time.time() - 3600)
    before = time.time()
    await fired(task)
    assert time.time() - before < 5


async def test_a_triggerer_continues_the_log_where_the_stopped_one_left_off(
    local_cluster: LocalCluster, local_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    script = "echo one; echo two; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo three"
    task = await task_for(local_cluster, local_client, script, deferred_at=time.time() - 3600)
    first = asyncio.create_task(fired(task))
    await wait_for_line("two")
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.create_task(fired(task))
    await local_client.exec(task.name, "default", container="base", command=["touch", "/tmp/go"])
    await second
    shown = [line for r in caplog.records if r.message.startswith("[base]") for line in r.message.split("\n")]
    assert shown == ["[base] one", "[base] two", "[base] three"]
    assert sum("The log continues where a triggerer stopped" in r.message for r in caplog.records) == 1


@pytest.mark.parametrize("code", [99, 0])
async def test_a_skip_exit_code_skips_the_task_and_the_pod_is_named(
    local_cluster: LocalCluster,
    local_client: Client,
    caplog: pytest.LogCaptureFixture,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    task = await task_for(local_cluster, local_client, f"exit {code}", end_from_trigger=True, skip_on_exit_code=[code])
    event = await ending(task, monkeypatch)
    assert isinstance(event, TaskSkippedEvent)
    assert f"Pod default/{task.name} exited with {code}: skipping the task" in caplog.messages
    assert not any("::group::" in message for message in caplog.messages)


@pytest.mark.skipif(not FAILING_IN_TRIGGERER_RETRIES, reason="before Airflow 3.3.1 a worker ends a failed task")
@pytest.mark.parametrize("switch", ["on", "off"])
async def test_a_task_that_the_trigger_fails_has_its_diagnosis_as_an_xcom(
    local_cluster: LocalCluster,
    local_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    switch: str,
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__PUSH_DIAGNOSIS", switch)
    pushed: dict[str, Any] = {}

    async def push(_: object, key: str, value: Any) -> None:
        pushed[key] = value

    monkeypatch.setattr("kpo_async.triggers.pod.push_xcom", push)
    task = await task_for(local_cluster, local_client, "exit 5", end_from_trigger=True)
    event = await ending(task, monkeypatch)
    assert isinstance(event, TaskFailedEvent)
    assert ("pod_diagnosis" in pushed) is (switch == "on")
    if switch == "on":
        assert (pushed["pod_diagnosis"]["category"], pushed["pod_diagnosis"]["exit_code"]) == ("ExitCode", 5)
    assert f"Pod default/{task.name} is deleted (on_finish_action='delete_pod')" in caplog.messages
    left = f"Pod default/{task.name}: on_finish_action='delete_pod' once Airflow has stored the end of its task"
    assert left in caplog.messages


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 5", OutcomeStatus.FAILED), ("true", None)],
)
async def test_a_worker_ends_a_failed_task_if_its_failure_needs_one(
    local_cluster: LocalCluster,
    local_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    status: OutcomeStatus | None,
) -> None:
    task = await task_for(local_cluster, local_client, script, end_from_trigger=True, worker_ends_failure=True)
    event = await ending(task, monkeypatch)
    if status is None:
        assert isinstance(event, TaskSuccessEvent)
    else:
        assert not isinstance(event, BaseTaskEndEvent)
        assert Outcome.from_dict(event.payload["outcome"]).status == status


@pytest.mark.parametrize("end_from_trigger", [False, True])
@pytest.mark.parametrize(("companion", "ends_well"), [("sleep 2", True), ("sleep 1; exit 9", False)])
async def test_companions_have_time_to_end_and_their_failures_count(
    local_cluster: LocalCluster,
    local_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    end_from_trigger: bool,
    companion: str,
    ends_well: bool,
) -> None:
    task = identity()
    spec = manifest(task, "true")
    uploader = {"name": "uploader", "image": "busybox:1.36", "command": ["sh", "-c", companion]}
    spec["spec"]["containers"].append(uploader)
    pod = await lifecycle.ensure_pod(local_client, spec, owner(task))
    terms = {"companions": ["uploader"], "companion_grace": 60.0, "end_from_trigger": end_from_trigger}
    event = await ending(pod_task(pod, str(local_cluster.kubeconfig), **terms), monkeypatch)
    if end_from_trigger and (ends_well or FAILING_IN_TRIGGERER_RETRIES):
        assert isinstance(event, TaskSuccessEvent if ends_well else TaskFailedEvent)
    else:
        assert event.payload["status"] == ("success" if ends_well else "failed")
        assert ("container 'uploader' failed with exit code 9" in event.payload["message"]) is not ends_well


async def test_a_worker_ends_the_task_where_a_trigger_knows_no_task_instance(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    """So `airflow dags test` runs triggers."""
    task = await task_for(local_cluster, local_client, "exit 4", end_from_trigger=True)
    [event] = await fired(task)
    assert (event["status"], Outcome.from_dict(event["outcome"]).exit_code) == ("failed", 4)


async def test_a_worker_ends_the_task_of_a_pod_whose_log_did_not_arrive_in_time(
    local_cluster: LocalCluster, local_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_log, "LOGS_TIMEOUT", 0.0)
    deferred_at = time.time() - 8  # a worker continues the log only of a task that was deferred
    task = await task_for(local_cluster, local_client, "seq 30000", end_from_trigger=True, deferred_at=deferred_at)
    event = (await ending(task, monkeypatch)).payload
    assert event["status"] == "success"
    outcome = Outcome.from_dict(event["outcome"])
    assert not outcome.logs_complete
    assert await pod_exists(local_client, await local_client.get("pods", task.name, "default"))


def test_a_row_of_another_version_is_refused_with_what_to_do() -> None:
    """And by the one error that does not end the whole triggerer."""
    row = PodTask("pod", "default", "uid").to_dict() | {"version": 99}
    with pytest.raises(TypeError, match="install the same kpo-async"):
        KubernetesPodTrigger(row)


class Recorder(KubernetesPodOperatorCallback):
    """A callback class that the triggerer finds by its import path."""

    calls: list[str] = []  # noqa: RUF012 - shared on purpose, as in a user's module

    @staticmethod
    async def on_pod_starting(*, pod: object, **kwargs: object) -> None:
        Recorder.calls.append("starting")

    @staticmethod
    def progress_callback(*, line: str, **kwargs: object) -> None:
        Recorder.calls.append(line)


async def test_callbacks_are_called_in_the_triggerer(local_cluster: LocalCluster, local_client: Client) -> None:
    Recorder.calls.clear()
    await fired(
        await task_for(local_cluster, local_client, "echo a; sleep 0.3; echo b", callbacks=[f"{__name__}:Recorder"])
    )
    assert [call for call in Recorder.calls if call != "starting"] == ["a", "b"]
    assert Recorder.calls.count("starting") == 1


CALLS: list[tuple[str, object]] = []


async def test_secrets_of_the_tasks_templates_are_masked_before_its_log_is_shown(
    local_cluster: LocalCluster, local_client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection = {"conn_type": "http", "password": "hunter-two-and-a-half", "extra": {"api_key": "key-of-the-extra"}}
    monkeypatch.setenv("AIRFLOW_CONN_DATABASE_OF_SHOP", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_VAR_SHOP_TOKEN", "token-of-the-shop")
    names = {"masked_connections": ["database_of_shop", "gone"], "masked_variables": ["shop_token", "gone"]}
    task = await task_for(local_cluster, local_client, "true", **names)
    printed = "hunter-two-and-a-half, key-of-the-extra, token-of-the-shop, and what is public"
    assert redact(printed) == printed
    [event] = await fired(task)
    assert event["status"] == "success"
    assert redact(printed) == "***, ***, ***, and what is public"
    assert [message for message in caplog.messages if "not masked" in message] == [
        "Secrets of the connection 'gone' are not masked in this log: AirflowNotFoundException"
    ]


class Broken(KubernetesPodOperatorCallback):
    """A user's class whose functions fail in the triggerer."""

    @staticmethod
    def on_pod_starting(**kwargs: Any) -> None:
        raise KeyError("dag_run")


class Exiting(KubernetesPodOperatorCallback):
    @staticmethod
    async def on_pod_starting(**kwargs: Any) -> None:
        sys.exit(3)


class BrokenAtTheEnd(KubernetesPodOperatorCallback):
    @staticmethod
    def on_pod_completion(**kwargs: Any) -> None:
        raise RuntimeError("no mail server")


class Skipping(KubernetesPodOperatorCallback):
    @staticmethod
    def on_pod_starting(**kwargs: Any) -> None:
        raise AirflowSkipException("not today")


class ForWorkers(KubernetesPodOperatorCallback):
    """Functions that name what no triggerer has."""

    @staticmethod
    def on_pod_starting(*, context: Any, **kwargs: Any) -> None:
        CALLS.append(("with a context", context["ti"]))


class Looking(KubernetesPodOperatorCallback):
    @staticmethod
    def on_pod_starting(**kwargs: Any) -> None:
        CALLS.append((kwargs["context"]["ti"].task_id, kwargs["operator"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Broken", "Broken.on_pod_starting raised KeyError: 'dag_run'"),
        ("Exiting", "on_pod_starting raised SystemExit"),
        ("Skipping", "Skipping.on_pod_starting raised AirflowSkipException: not today"),
    ],
)
async def test_an_error_of_a_callback_is_an_outcome_that_names_it(
    local_cluster: LocalCluster, local_client: Client, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    task = await task_for(local_cluster, local_client, "sleep 1000", callbacks=[f"{__name__}:{name}"])
    [event] = await fired(task)
    assert event["status"] == "error"
    assert words in event["message"]
    assert event["outcome"]["category"] == ("AirflowSkipException" if name == "Skipping" else "CallbackError")
    [record] = [record for record in caplog.records if record.exc_info]
    assert "Traceback of the callback's error" in record.message


async def test_an_error_of_a_callback_fails_a_task_that_ends_in_the_triggerer(
    local_cluster: LocalCluster, local_client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks = [f"{__name__}:BrokenAtTheEnd"]
    task = await task_for(local_cluster, local_client, "true", callbacks=callbacks, end_from_trigger=True)
    event = await ending(task, monkeypatch)
    message = "the callback BrokenAtTheEnd.on_pod_completion raised RuntimeError: no mail server"
    assert message in (caplog.messages if fails_task(event) else event.payload["message"])
    found = await lifecycle.pod_of(local_client, task).get()
    assert found is None or "deletionTimestamp" in found["metadata"]


async def test_a_module_that_fails_when_it_is_imported_is_an_outcome_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_by_its_user.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    task = PodTask("pod", "default", "uid", callbacks=["broken_by_its_user:Callback"])
    [event] = await fired(task)
    assert event["status"] == "error"
    assert "broken_by_its_user:Callback cannot be imported" in event["message"]
    assert "ZeroDivisionError" in event["message"]


async def test_a_callback_that_takes_the_context_is_left_to_the_worker_and_others_get_a_triggers(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    CALLS.clear()
    callbacks = [f"{__name__}:ForWorkers", f"{__name__}:Looking"]
    task = await task_for(local_cluster, local_client, "true", callbacks=callbacks)
    trigger = KubernetesPodTrigger(task.to_dict())
    trigger.task_instance = task_instance(identity())  # type: ignore[assignment]
    [event] = [event async for event in trigger.run()]
    assert event.payload["status"] == "success"
    assert CALLS == [("task", None)]


class SleepsAtTheStart(KubernetesPodOperatorCallback):
    """A user's plain function that outlasts its task's execution_timeout."""

    @staticmethod
    def on_pod_starting(**kwargs: object) -> None:
        time.sleep(8)


class SleepsAtTheEnd(KubernetesPodOperatorCallback):
    @staticmethod
    def on_pod_completion(**kwargs: object) -> None:
        time.sleep(8)


async def test_execution_timeout_ends_a_callback_and_stops_the_pod(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    callbacks = [f"{__name__}:SleepsAtTheStart"]
    task = await task_for(local_cluster, local_client, "sleep 1000", callbacks=callbacks, deadline=time.time() + 2)
    before = time.monotonic()
    [event] = await fired(task)
    assert time.monotonic() - before < 6
    assert event["status"] == "timeout"
    assert "execution_timeout has passed" in event["message"]
    assert "deletionTimestamp" in (await local_client.get("pods", task.name, "default"))["metadata"]


async def test_execution_timeout_ends_a_callback_of_a_task_that_ends_in_the_triggerer(
    local_cluster: LocalCluster, local_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks = [f"{__name__}:SleepsAtTheEnd"]
    task = await task_for(
        local_cluster,
        local_client,
        "true",
        callbacks=callbacks,
        deadline=time.time() + 3,
        end_from_trigger=True,
    )
    event = await ending(task, monkeypatch)
    assert fails_task(event) or "execution_timeout passed" in event.payload["message"]
