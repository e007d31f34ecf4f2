"""Containers beside the base container: their failures count, and they have time to end. On the embedded cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.lifecycle import TaskRecord
from kpo_async.localcluster import LocalCluster
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, Outcome, OutcomeStatus, PodTask
from tests.factories import NO_CALLBACKS, eventually, identity, manifest, owner, pod_task, retry_of


def container(name: str, script: str, **more: Any) -> Json:
    return {"name": name, "image": "busybox:1.36", "command": ["sh", "-c", script], **more}


async def create(
    client: Client,
    script: str,
    *companions: Json,
    init: list[Json] | None = None,
    fields: Json | None = None,
    **more: Any,
) -> PodTask:
    """Create a pod with these companions, and return its task as an operator makes it."""
    task = identity()
    spec = manifest(task, script, **more)
    spec["spec"]["containers"] += companions
    spec["spec"]["initContainers"] = [*spec["spec"].get("initContainers", []), *(init or [])]
    pod = await lifecycle.ensure_pod(client, spec, owner(task))
    record = TaskRecord.of_pod(pod)
    assert record is not None
    return pod_task(pod, **{"companions": record.companions, "companion_grace": 20.0, **(fields or {})})


async def wait(client: Client, task: PodTask) -> Outcome:
    return await lifecycle.wait(client, task, NO_CALLBACKS)


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(r.message for r in caplog.records if r.name == "kpo_async.lifecycle.companions")


async def test_a_companion_that_failed_by_itself_fails_the_task_and_is_named(client: Client) -> None:
    outcome = await wait(client, await create(client, "true", container("uploader", "exit 9")))
    assert (outcome.status, outcome.exit_code, outcome.category) == (OutcomeStatus.FAILED, 0, "CompanionFailed")
    assert "container 'uploader' failed with exit code 9" in outcome.message
    assert outcome.diagnosis is not None
    assert (outcome.diagnosis.container, outcome.diagnosis.exit_code) == ("uploader", 9)


async def test_a_companion_that_fails_after_the_base_container_has_ended_fails_the_task(client: Client) -> None:
    outcome = await wait(client, await create(client, "true", container("uploader", "sleep 1; exit 9")))
    assert "container 'uploader' failed with exit code 9" in outcome.message


@pytest.mark.parametrize("ignored", [True, ["uploader"]])
async def test_an_ignored_companion_may_fail(client: Client, ignored: bool | list[str]) -> None:
    task = await create(client, "true", container("uploader", "exit 9"), fields={"ignore_companions": ignored})
    assert (await wait(client, task)).succeeded


async def test_another_one_than_the_ignored_companion_may_not_fail(client: Client) -> None:
    companions = [container("metrics", "exit 1"), container("uploader", "exit 9")]
    outcome = await wait(client, await create(client, "true", *companions, fields={"ignore_companions": ["metrics"]}))
    assert "container 'uploader' failed with exit code 9" in outcome.message


async def test_a_skip_exit_code_0_does_not_hide_a_companion_that_failed(client: Client) -> None:
    task = await create(client, "true", container("uploader", "exit 9"), fields={"skip_on_exit_code": [0]})
    assert not task.skips(await wait(client, task))


async def test_a_companion_that_still_uploads_ends_by_itself(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.companions")
    task = await create(client, "true", container("uploader", "sleep 2; echo done"), logs=None)
    assert (await wait(client, task)).succeeded
    pod = await client.get("pods", task.name, "default")
    [upload] = [s for s in pod["status"]["containerStatuses"] if s["name"] == "uploader"]
    assert upload["state"]["terminated"]["exitCode"] == 0
    assert said(caplog) == (f"Pod default/{task.name}: waiting for the end of container 'uploader', for 20 s at most")


@pytest.mark.parametrize(("grace", "words"), [(0.0, "still ran 0 s after"), (1.0, "still ran 1 s after")])
async def test_a_companion_that_does_not_end_is_stopped_with_a_warning(
    client: Client, caplog: pytest.LogCaptureFixture, grace: float, words: str
) -> None:
    proxy = container("proxy", "sleep 1000")
    task = await create(client, "true", proxy, fields={"companion_grace": grace})
    before = time.time()
    assert (await wait(client, task)).succeeded
    assert time.time() - before < grace + 8
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    [warning] = [text for text in warnings if "'proxy'" in text]
    assert words in warning
    assert "declare it as a native sidecar: an init container with restartPolicy Always" in warning

    async def stopped() -> bool:
        pod = await client.get("pods", task.name, "default")
        [status] = [s for s in pod["status"]["containerStatuses"] if s["name"] == "proxy"]
        return "terminated" in status["state"]

    await eventually(stopped)
    # Another triggerer that looks at the stopped pod comes to the same verdict.
    assert (await wait(client, task)).succeeded


async def test_without_a_limit_the_tasks_own_time_out_ends_the_wait(client: Client) -> None:
    fields = {"companion_grace": None, "deadline": time.time() + 3}
    task = await create(client, "true", container("proxy", "sleep 1000"), fields=fields)
    outcome = await wait(client, task)
    assert (outcome.status, outcome.category) == (OutcomeStatus.TIMED_OUT, "ExecutionTimeout")


async def test_a_base_container_that_failed_does_not_wait(client: Client) -> None:
    task = await create(client, "exit 3", container("proxy", "sleep 1000"), fields={"companion_grace": None})
    outcome = await wait(client, task)
    assert (outcome.exit_code, outcome.category) == (3, "ExitCode")


async def test_a_native_sidecar_is_not_a_companion(client: Client) -> None:
    sidecar = container("mesh", "sleep 1000", restartPolicy="Always")
    task = await create(client, "true", init=[sidecar], do_xcom_push=True)
    assert task.companions == []
    assert (await wait(client, task)).succeeded


async def test_containers_that_a_webhook_injected_are_not_companions(
    local_cluster: LocalCluster, client: Client
) -> None:
    task = identity()
    sent, wanted = manifest(task, "true"), owner(task)
    wanted.mark(sent["metadata"])
    injected = [container("istio-proxy", "exit 5"), container("waypoint", "sleep 1000")]
    stored = {**sent, "spec": {**sent["spec"], "containers": [*sent["spec"]["containers"], *injected]}}
    local_cluster.client.create("pods", stored)
    pod = await lifecycle.ensure_pod(client, sent, wanted)
    assert len(pod["spec"]["containers"]) == 3
    record = TaskRecord.of_pod(pod)
    assert record is not None
    outcome = await wait(client, pod_task(pod, companions=record.companions, companion_grace=None))
    assert outcome.succeeded


async def test_the_classic_xcom_sidecar_is_not_a_companion(client: Client) -> None:
    task = await create(client, "true", do_xcom_push=True, xcom_transport="exec")
    assert task.companions == []


async def test_the_result_is_read_after_a_companion_has_ended(client: Client) -> None:
    script = "echo 5 > /airflow/xcom/return.json"
    uploader = container("uploader", "sleep 3")
    task = await create(client, script, uploader, fields={"xcom": XComTransport.SIDECAR}, do_xcom_push=True)
    outcome = await wait(client, task)
    assert (outcome.succeeded, outcome.result_known, json.loads(outcome.result or "")) == (True, True, 5)
    pod = await client.get("pods", task.name, "default")
    assert pod["spec"].get("activeDeadlineSeconds") is None


async def test_a_pod_that_is_deleted_while_a_companion_runs_has_succeeded(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    task = await create(client, "true", container("proxy", "sleep 1000"))
    waiting = asyncio.create_task(wait(client, task))

    async def base_has_ended() -> bool:
        pod = await client.get("pods", task.name, "default")
        return any("terminated" in s["state"] for s in pod["status"].get("containerStatuses", []))

    await eventually(base_has_ended)
    await client.delete("pods", task.name, "default", grace_period_seconds=1)
    assert (await waiting).succeeded


async def test_an_adopted_pod_keeps_the_companions_of_its_own_manifest(client: Client) -> None:
    first = identity()
    spec = manifest(first, "sleep 1000")
    spec["spec"]["containers"].append(container("uploader", "sleep 1000"))
    await lifecycle.ensure_pod(client, spec, owner(first))
    second = retry_of(first)
    adopted = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000"), owner(second))
    record = TaskRecord.of_pod(adopted)
    assert record is not None
    assert (record.try_number, record.companions) == (2, ["uploader"])


async def test_a_manifest_made_of_a_live_pod_declares_what_that_pods_record_says(client: Client) -> None:
    task = identity()
    made, wanted = manifest(task, "true"), owner(task, companions=["uploader"])
    wanted.mark(made["metadata"])
    made["spec"]["containers"] += [container("uploader", "true"), container("istio-proxy", "sleep 1000")]
    record = TaskRecord.of_pod(await lifecycle.ensure_pod(client, made, owner(task)))
    assert record is not None
    assert record.companions == ["uploader"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        pytest.param({}, True, id="the companion counts"),
        pytest.param({"ignore_companions": ["uploader"]}, False, id="it may fail"),
        pytest.param({"ignore_companions": True}, False, id="all may fail"),
    ],
)
async def test_a_pod_whose_companion_failed_has_not_succeeded_for_those_who_deal_with_it_later(
    client: Client, fields: Json, kept: bool
) -> None:
    policy = {"on_finish_action": OnFinishAction.DELETE_SUCCEEDED_POD, **fields}
    task = await create(client, "true", container("uploader", "exit 9"), fields=policy)
    pod = PodHandle(client, task.namespace, task.name, task.uid)

    async def ended() -> bool:
        return (await client.get("pods", task.name, "default"))["status"]["phase"] == "Failed"

    await eventually(ended)
    await lifecycle.end(pod, task, owner=task.owner)
    found = await pod.get()
    assert (found is not None and "deletionTimestamp" not in found["metadata"]) is kept
