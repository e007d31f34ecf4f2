"""What becomes of the result and of the pod after the wait, on the embedded cluster."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.callbacks import Callbacks, KubernetesPodOperatorCallback
from kpo_async.exceptions import XComError
from kpo_async.kube.client import Client
from kpo_async.logs.records import RECORD_BYTES, json_size
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, OnKillAction, Outcome, OutcomeStatus
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
    await lifecycle.finish(client, terms, outcome)
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


@pytest.mark.parametrize(
    ("action", "script", "kept"),
    [
        pytest.param(OnFinishAction.DELETE_POD, "exit 1", False, id="delete_pod"),
        pytest.param(OnFinishAction.KEEP_POD, "exit 0", True, id="keep_pod"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 0", False, id="delete_succeeded_pod that succeeded"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 1", True, id="delete_succeeded_pod that failed"),
        pytest.param(OnFinishAction.DELETE_ACTIVE_POD, "exit 1", True, id="delete_active_pod that has ended"),
    ],
)
async def test_the_pod_is_deleted_or_kept_as_asked(
    client: Client, action: OnFinishAction, script: str, kept: bool
) -> None:
    pod = await create_pod(client, script)
    task = pod_task(pod, on_finish_action=action)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    await lifecycle.finish(client, task, outcome)
    await lifecycle.finish(client, task, outcome)
    assert await pod_exists(client, pod) is kept
    if kept:
        labels = (await client.get("pods", task.name, "default"))["metadata"]["labels"]
        assert (labels["kpo-async/done"], labels["already_checked"]) == ("true", "True")


@pytest.mark.parametrize(
    ("action", "kept"), [pytest.param(OnKillAction.DELETE_POD, False), pytest.param(OnKillAction.KEEP_POD, True)]
)
async def test_killing_a_task_deletes_its_pod_unless_it_is_to_be_kept_and_logs_which(
    client: Client, action: OnKillAction, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle")
    pod = await create_pod(client, "sleep 1000")
    await lifecycle.kill(client, pod_task(pod, on_kill_action=action))
    assert await pod_exists(client, pod) is kept
    assert caplog.messages[-1].startswith("Leaving pod default/" if kept else "Deleting pod default/")


async def test_another_pod_of_the_same_name_is_not_touched(client: Client) -> None:
    pod = await create_pod(client, "sleep 1000")
    stale = pod_task(pod, uid="00000000-0000-0000-0000-000000000000")
    await lifecycle.kill(client, stale)
    await lifecycle.finish(client, stale, Outcome(OutcomeStatus.FAILED))
    assert await pod_exists(client, pod)


async def test_the_manifest_of_a_failed_pod_is_a_group_whose_markers_are_records_of_their_own(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    pod = await create_pod(client, "exit 1", env_vars={f"VARIABLE_{n}": "x" * 100 for n in range(200)})
    task = pod_task(pod)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    async with lifecycle.finishing(client, task, outcome, NO_CALLBACKS):
        pass
    start = caplog.messages.index(f"::group::Pod {task.namespace}/{task.name}")
    end = caplog.messages.index("::endgroup::")
    content = caplog.messages[start + 1 : end]
    assert len(content) > 1
    assert "VARIABLE_199" in "\n".join(content)
    assert all(json_size(message) <= RECORD_BYTES for message in content)
