"""What becomes of the result, and when callbacks are called, after the wait, on the embedded cluster."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest
import yaml

from kpo_async import lifecycle
from kpo_async.callbacks import Callbacks, KubernetesPodOperatorCallback
from kpo_async.exceptions import XComError
from kpo_async.kube.client import Client
from kpo_async.localcluster import LocalCluster
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, Outcome, OutcomeStatus
from tests.factories import NO_CALLBACKS, create_pod, identity, manifest, owner, pod_exists, pod_task


@pytest.mark.parametrize(
    ("text", "result"),
    [
        pytest.param('{"a": [1, null]}', {"a": [1, None]}, id="an object"),
        pytest.param("7", 7, id="a number"),
        pytest.param('""', "", id="an empty string"),
        pytest.param("", None, id="an empty file is no result"),
        pytest.param(json.dumps("é" * 5000), "é" * 5000, id="more than a termination message holds"),
    ],
)
async def test_the_result_arrives_as_it_was_written(client: Client, text: str, result: object) -> None:
    pod = await create_pod(
        client, 'printf %s "$RESULT" > /airflow/xcom/return.json', do_xcom_push=True, env_vars={"RESULT": text}
    )
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert outcome.result_known
    assert await lifecycle.collect(client, task, outcome) == result
    assert await lifecycle.collect(client, task, Outcome(OutcomeStatus.SUCCEEDED)) == result


async def test_a_result_that_is_not_valid_json_fails_a_task_that_succeeded(client: Client) -> None:
    pod = await create_pod(client, "echo {oops > /airflow/xcom/return.json", do_xcom_push=True)
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    with pytest.raises(XComError, match="not valid JSON"):
        await lifecycle.collect(client, task, outcome)


async def test_the_result_of_a_pod_that_failed_is_still_collected(client: Client) -> None:
    pod = await create_pod(client, "echo 5 > /airflow/xcom/return.json; exit 1", do_xcom_push=True)
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert outcome.status == OutcomeStatus.FAILED
    assert await lifecycle.collect(client, task, outcome) == 5


async def test_a_companion_that_never_ends_delays_neither_the_verdict_nor_the_deletion(client: Client) -> None:
    task = identity()
    pod_manifest = manifest(task, "exit 0")
    companion = {"name": "companion", "image": "busybox:1.36", "command": ["sleep", "1000"]}
    pod_manifest["spec"]["containers"].append(companion)
    pod = await lifecycle.ensure_pod(client, pod_manifest, owner(task))
    terms = pod_task(pod, on_finish_action=OnFinishAction.DELETE_SUCCEEDED_POD)
    outcome = await lifecycle.wait(client, terms, NO_CALLBACKS)
    assert outcome.succeeded
    await lifecycle.finish(lifecycle.pod_of(client, terms), terms, succeeded=True)
    assert not await pod_exists(client, pod)


async def test_callbacks_see_the_phase_that_follows_the_end_of_the_base_container(client: Client) -> None:
    pytest.importorskip("kubernetes")
    seen = []

    class Looking(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_completion(*, pod: Any, **_: object) -> None:
            seen.append(pod.status.phase)

    pod = await create_pod(client, "sleep 0.3")
    ended_before_its_phase = Outcome(OutcomeStatus.SUCCEEDED, exit_code=0)
    async with lifecycle.finishing(client, pod_task(pod), ended_before_its_phase, Callbacks([Looking])):
        pass
    assert seen == ["Succeeded"]


@pytest.mark.parametrize("verb", ["get", "delete", "list watch", "delete get"])
async def test_without_a_right_the_verdict_stands_and_a_warning_names_the_pod_that_is_left(
    local_cluster: LocalCluster, client: Client, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await create_pod(client, "exit 3")
    task = pod_task(pod)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    with local_cluster.faults.forbid(verb=verb, resource="pods"):
        async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
            assert await lifecycle.collect(client, task, outcome) is None
    assert outcome.exit_code == 3
    left = "delete" in verb
    assert await pod_exists(client, pod) is left
    assert (f"Pod default/{task.name} is left as it is" in caplog.text) is left


async def test_without_the_right_to_delete_a_pod_that_is_out_of_time_still_times_out(
    local_cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await create_pod(client, "sleep 1000")
    with local_cluster.faults.forbid(verb="delete", resource="pods"):
        outcome = await lifecycle.wait(client, pod_task(pod, deadline=time.time() + 0.5), NO_CALLBACKS)
    assert outcome.status is OutcomeStatus.TIMED_OUT
    assert f"Pod default/{pod['metadata']['name']} runs on" in caplog.text


async def test_a_story_that_is_cancelled_while_it_finishes_does_nothing_to_the_pod(client: Client) -> None:
    pod = await create_pod(client, "exit 0")
    task = pod_task(pod)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    with pytest.raises(asyncio.CancelledError):
        async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
            raise asyncio.CancelledError
    assert await pod_exists(client, pod)


async def test_an_error_while_the_result_is_collected_is_raised_after_the_pod_is_finished(client: Client) -> None:
    pod = await create_pod(client, "exit 0")
    task = pod_task(pod)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    with pytest.raises(XComError, match="oops"):
        async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
            raise XComError("oops")
    assert not await pod_exists(client, pod)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "kpo_async.lifecycle.finishing"]


@pytest.mark.parametrize("spec_on_failure", [True, False])
async def test_the_diagnosis_of_a_failed_pod_is_one_block_of_the_log(
    client: Client, caplog: pytest.LogCaptureFixture, spec_on_failure: bool
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.finishing")
    pod = await create_pod(client, "exit 139")
    task = pod_task(pod, spec_on_failure=spec_on_failure)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
        pass
    title, body, end = said(caplog)[-3:]
    assert title == f"::group::Diagnosis of pod default/{task.name}: Signal"
    assert yaml.safe_load(body) == outcome.diagnosis_of(task).to_dict()
    assert "signal: SIGSEGV" in body
    assert "- 'SIGSEGV: the program, or a native library" in body
    assert end == "::endgroup::"


async def test_a_skipped_or_successful_task_has_no_diagnosis_in_its_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.finishing")
    for script, codes in (("exit 0", []), ("exit 9", [9])):
        task = pod_task(await create_pod(client, script), skip_on_exit_code=codes)
        outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
        async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
            pass
    assert said(caplog) == []
