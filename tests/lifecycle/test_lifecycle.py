"""The story of one pod against the embedded cluster, with real processes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.callbacks import Callbacks, KubernetesPodOperatorCallback
from kpo_async.exceptions import NotFoundError, PodConflictError, XComError
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import OnFinishAction, OnKillAction, Outcome, OutcomeStatus
from tests.factories import NO_CALLBACKS, identity, manifest, owner, pod_task

LOG_LOGGERS = ("kpo_async.pod_log", "kpo_async.lifecycle.task_log")


@pytest.fixture
def client(local_client: Client) -> Client:
    return local_client


async def started(client: Client, script: str, **parameters: object) -> dict:
    task = identity()
    return await lifecycle.ensure_pod(client, manifest(task, script, **parameters), owner(task))


async def waited(client: Client, script: str, terms: dict | None = None, **parameters: object) -> Outcome:
    pod = await started(client, script, **parameters)
    return await lifecycle.wait(client, pod_task(pod, **(terms or {})), NO_CALLBACKS)


async def exists(client: Client, pod: dict) -> bool:
    try:
        found = await client.get("pods", pod["metadata"]["name"], "default")
    except NotFoundError:
        return False
    return found["metadata"]["uid"] == pod["metadata"]["uid"] and "deletionTimestamp" not in found["metadata"]


async def test_a_pod_that_exits_with_zero_has_succeeded(client: Client) -> None:
    outcome = await waited(client, "true")
    assert (outcome.status, outcome.exit_code, outcome.category) == (OutcomeStatus.SUCCEEDED, 0, "Succeeded")


async def test_a_failure_names_the_pod_its_container_and_the_exit_code(client: Client) -> None:
    outcome = await waited(client, "exit 3")
    assert (outcome.status, outcome.exit_code, outcome.category) == (OutcomeStatus.FAILED, 3, "ExitCode")
    assert "container 'base' failed with exit code 3" in outcome.message
    assert "pod default/task-" in outcome.message


async def test_every_line_is_shown_once_and_in_order(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    outcome = await waited(client, "for i in 1 2 3; do echo line $i; done; echo ERROR: oh; exit 1")
    shown = [
        (r.levelname, line) for r in caplog.records if r.name == "kpo_async.pod_log" for line in r.message.split("\n")
    ]
    assert shown == [*(("INFO", f"[base] line {i}") for i in (1, 2, 3)), ("ERROR", "[base] ERROR: oh")]
    assert outcome.logs_complete


async def test_a_formatter_that_fails_costs_no_line_and_is_told_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def shout(container: str, line: str) -> str:
        raise ValueError("no voice")

    pod = await started(client, "echo one; echo two")
    caplog.set_level(logging.INFO, logger="kpo_async")
    await lifecycle.wait(client, pod_task(pod), NO_CALLBACKS, formatter=shout)
    shown = [(r.levelname, r.message) for r in caplog.records if r.name in LOG_LOGGERS]
    warnings = [message for level, message in shown if level == "WARNING"]
    assert "[base] one\n[base] two" in "\n".join(message for _, message in shown)
    assert len(warnings) == 1
    assert "shout failed" in warnings[0]
    assert "no voice" in warnings[0]


@pytest.mark.parametrize(
    ("logs", "parameters", "hint"),
    [
        pytest.param(LogPlan(), {}, "see the program's output in the task's log", id="shown"),
        pytest.param(None, {}, "with get_logs=True the task's log has the program's output", id="not shown"),
        pytest.param(
            LogPlan(init_containers=True),
            {"init_containers": [{"name": "init", "image": "busybox:1.36", "command": ["false"]}]},
            "see its output in the task's log",
            id="an init container, shown",
        ),
        pytest.param(
            LogPlan(),
            {"init_containers": [{"name": "init", "image": "busybox:1.36", "command": ["false"]}]},
            "show that container's log with init_container_logs=True",
            id="an init container, not shown",
        ),
    ],
)
async def test_a_failure_says_where_to_look_with_the_logs_that_are_shown(
    client: Client, logs: LogPlan | None, parameters: dict, hint: str
) -> None:
    outcome = await waited(client, "exit 1", {"logs": logs}, **parameters)
    assert outcome.message.endswith(f"({hint})")


async def test_a_pod_whose_logs_nobody_wants_is_not_asked_for_them(client: Client) -> None:
    outcome = await waited(client, "echo nobody reads this", {"logs": None})
    assert outcome.succeeded
    assert outcome.cursors == {}


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
    pod = await started(
        client, 'printf %s "$RESULT" > /airflow/xcom/return.json', do_xcom_push=True, env_vars={"RESULT": text}
    )
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert outcome.result_known
    assert await lifecycle.collect(client, task, outcome) == result
    assert await lifecycle.collect(client, task, Outcome(OutcomeStatus.SUCCEEDED)) == result


async def test_a_result_that_is_no_json_fails_a_task_that_succeeded(client: Client) -> None:
    pod = await started(client, "echo {oops > /airflow/xcom/return.json", do_xcom_push=True)
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    with pytest.raises(XComError, match="not valid JSON"):
        await lifecycle.collect(client, task, outcome)


async def test_the_result_of_a_pod_that_failed_is_still_collected(client: Client) -> None:
    pod = await started(client, "echo 5 > /airflow/xcom/return.json; exit 1", do_xcom_push=True)
    task = pod_task(pod, xcom=XComTransport.SIDECAR)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert outcome.status == OutcomeStatus.FAILED
    assert await lifecycle.collect(client, task, outcome) == 5


async def test_a_companion_that_never_ends_holds_up_neither_the_verdict_nor_the_clean_up(client: Client) -> None:
    task = identity()
    pod_manifest = manifest(task, "exit 0")
    companion = {"name": "companion", "image": "busybox:1.36", "command": ["sleep", "1000"]}
    pod_manifest["spec"]["containers"].append(companion)
    pod = await lifecycle.ensure_pod(client, pod_manifest, owner(task))
    terms = pod_task(pod, on_finish_action=OnFinishAction.DELETE_SUCCEEDED_POD)
    outcome = await lifecycle.wait(client, terms, NO_CALLBACKS)
    assert outcome.succeeded
    await lifecycle.finish(client, terms, outcome)
    assert not await exists(client, pod)


async def test_callbacks_see_the_phase_that_follows_the_end_of_the_base_container(client: Client) -> None:
    pytest.importorskip("kubernetes")
    seen = []

    class Looking(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_completion(*, pod: Any, **_: object) -> None:
            seen.append(pod.status.phase)

    pod = await started(client, "sleep 0.3")
    ended_before_its_phase = Outcome(OutcomeStatus.SUCCEEDED, exit_code=0)
    async with lifecycle.finishing(client, pod_task(pod), ended_before_its_phase, Callbacks([Looking])):
        pass
    assert seen == ["Succeeded"]


async def test_a_task_that_runs_out_of_time_stops_its_pod(client: Client) -> None:
    pod = await started(client, "sleep 1000")
    outcome = await lifecycle.wait(client, pod_task(pod, deadline=time.time() + 1), NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.TIMED_OUT, "ExecutionTimeout")
    assert not await exists(client, pod)


async def test_a_pod_deleted_by_somebody_else_is_reported_as_lost(client: Client) -> None:
    pod = await started(client, "sleep 1000")
    waiting = asyncio.create_task(lifecycle.wait(client, pod_task(pod), NO_CALLBACKS))
    await client.delete("pods", pod["metadata"]["name"], "default")
    outcome = await waiting
    assert (outcome.status, outcome.category) == (OutcomeStatus.LOST, "Deleted")


async def test_a_pod_that_was_gone_before_anybody_looked_is_named_with_what_may_have_become_of_it(
    client: Client,
) -> None:
    pod = await started(client, "true")
    task = pod_task(pod)
    await client.delete("pods", task.name, "default", uid=task.uid, grace_period_seconds=0)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.LOST, "Deleted")
    assert outcome.message.startswith(f"pod default/{task.name} was gone before it was seen (it was deleted, or")


async def test_a_name_that_cannot_be_an_image_fails_at_once(client: Client) -> None:
    outcome = await waited(client, "true", image="No Such Image!")
    assert (outcome.status, outcome.category) == (OutcomeStatus.NOT_STARTED, "ImagePull")
    assert "No Such Image!" in outcome.message


async def test_a_start_that_takes_too_long_is_given_up_and_meanwhile_it_says_what_it_waits_for(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.pod_status_log")
    outcome = await waited(client, "true", {"schedule_timeout": 2}, node_selector={"no": "such-node"})
    assert (outcome.status, outcome.category) == (OutcomeStatus.NOT_STARTED, "Unschedulable")
    assert any("has no node yet: 0/1 nodes are available" in r.message for r in caplog.records)


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
    pod = await started(client, script)
    task = pod_task(pod, on_finish_action=action)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    await lifecycle.finish(client, task, outcome)
    await lifecycle.finish(client, task, outcome)
    assert await exists(client, pod) is kept
    if kept:
        labels = (await client.get("pods", task.name, "default"))["metadata"]["labels"]
        assert (labels["kpo-async/done"], labels["already_checked"]) == ("true", "True")


@pytest.mark.parametrize(
    ("action", "kept"), [pytest.param(OnKillAction.DELETE_POD, False), pytest.param(OnKillAction.KEEP_POD, True)]
)
async def test_killing_a_task_stops_its_pod_unless_it_is_to_be_kept_and_says_which(
    client: Client, action: OnKillAction, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle")
    pod = await started(client, "sleep 1000")
    await lifecycle.kill(client, pod_task(pod, on_kill_action=action))
    assert await exists(client, pod) is kept
    assert caplog.messages[-1].startswith("Leaving pod default/" if kept else "Deleting pod default/")


async def test_nothing_is_done_to_another_pod_of_the_same_name(client: Client) -> None:
    pod = await started(client, "sleep 1000")
    stale = pod_task(pod, uid="00000000-0000-0000-0000-000000000000")
    await lifecycle.kill(client, stale)
    await lifecycle.finish(client, stale, Outcome(OutcomeStatus.FAILED))
    assert await exists(client, pod)


async def test_creating_twice_finds_the_same_pod(client: Client) -> None:
    task = identity()
    first = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    second = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]


async def test_a_pod_of_somebody_else_with_our_name_is_not_taken(client: Client) -> None:
    fixed = {"name": "fixed", "random_name_suffix": False}
    mine, theirs = identity(), identity()
    await lifecycle.ensure_pod(client, manifest(theirs, "sleep 1000", **fixed), owner(theirs))
    with pytest.raises(PodConflictError, match="default/fixed exists already"):
        await lifecycle.ensure_pod(client, manifest(mine, "sleep 1000", **fixed), owner(mine))


async def test_a_retry_takes_over_the_pod_that_the_try_before_left_running(client: Client) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    pod = await lifecycle.ensure_pod(client, manifest(second := identity(2), "sleep 1000"), owner(second))
    assert pod["metadata"]["uid"] == left["metadata"]["uid"]
    assert pod["metadata"]["annotations"]["kpo-async/owner"] == second.owner


async def test_a_pod_that_changes_while_a_retry_takes_it_over_is_not_left_to_itself(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    patch = client.patch

    async def late(resource: str, name: str, body: dict[str, Any], namespace: str) -> dict[str, Any]:
        monkeypatch.undo()
        await patch(resource, name, {"metadata": {"labels": {"changed": "meanwhile"}}}, namespace)
        return await patch(resource, name, body, namespace)

    monkeypatch.setattr(client, "patch", late)
    pod = await lifecycle.ensure_pod(client, manifest(second := identity(2), "sleep 1000"), owner(second))
    assert pod["metadata"]["uid"] == left["metadata"]["uid"]
    assert pod["metadata"]["annotations"]["kpo-async/owner"] == second.owner


async def test_a_retry_that_may_not_reattach_deletes_the_pod_left_running(client: Client) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    second = identity(2)
    pod = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000"), owner(second, reattach=False))
    assert not await exists(client, left)
    assert await exists(client, pod)


async def test_a_try_started_again_waits_for_its_own_deleted_pod_to_go(client: Client) -> None:
    task = identity()
    killed = await lifecycle.ensure_pod(client, manifest(task, "trap '' TERM; sleep 1000"), owner(task))
    await lifecycle.kill(client, pod_task(killed))
    pod = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    assert pod["metadata"]["uid"] != killed["metadata"]["uid"]
    assert await exists(client, pod)


async def test_an_abandoned_try_leaves_no_pod(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))
    await lifecycle.abandon(client, wanted, owner(task))
    assert not await exists(client, pod)


async def test_a_pod_whose_labels_and_annotations_a_hook_took_off_is_ours(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    wanted["metadata"].update(labels={"only": "mine"}, annotations=None)
    first = await lifecycle.ensure_pod(client, wanted, owner(task))
    second = await lifecycle.ensure_pod(client, wanted, owner(task))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]


async def test_an_abandoned_try_leaves_no_pod_whose_labels_a_hook_took_off(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    wanted["metadata"]["labels"] = {"only": "mine"}
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))
    await lifecycle.abandon(client, wanted, owner(task))
    assert not await exists(client, pod)


async def test_a_retry_needs_no_right_to_list_pods(
    local_cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that it cannot see what an earlier try left, and makes a pod of its own; that is found again by name."""
    again = identity(try_number=2)
    wanted = manifest(again, "sleep 1000")
    with local_cluster.faults.forbid(verb="list", resource="pods"):
        pod = await lifecycle.ensure_pod(client, wanted, owner(again))
        assert "Cannot find out whether an earlier try left a pod running" in caplog.text
        await lifecycle.abandon(client, wanted, owner(again))
    assert not await exists(client, pod)


async def test_what_the_trigger_did_not_show_the_worker_shows(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    pod = await started(client, "echo one; echo two")
    outcome = await lifecycle.wait(client, pod_task(pod, logs=None), NO_CALLBACKS)
    assert not outcome.logs_complete
    await lifecycle.emit_remaining_logs(client, pod_task(pod, logs=LogPlan(prefix=False)), outcome, NO_CALLBACKS)
    shown = [r.message for r in caplog.records if r.name == "kpo_async.pod_log"]
    assert "\n".join(shown).split("\n") == ["one", "two"]
