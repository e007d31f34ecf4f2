"""The outcome of waiting for real pods of the embedded cluster."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from kpo_async import lifecycle
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.logs.plan import LogPlan
from kpo_async.pod_task import OutcomeStatus
from tests.factories import NO_CALLBACKS, create_pod, eventually, pod_exists, pod_task, wait_for_pod


async def test_a_pod_that_exits_with_zero_has_succeeded(client: Client) -> None:
    outcome = await wait_for_pod(client, "true")
    assert (outcome.status, outcome.exit_code, outcome.category) == (OutcomeStatus.SUCCEEDED, 0, "Succeeded")


async def test_a_failure_names_the_pod_its_container_and_the_exit_code(client: Client) -> None:
    outcome = await wait_for_pod(client, "exit 3")
    assert (outcome.status, outcome.exit_code, outcome.category) == (OutcomeStatus.FAILED, 3, "ExitCode")
    assert "container 'base' failed with exit code 3" in outcome.message
    assert "pod default/task-" in outcome.message


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
async def test_the_hint_of_a_failure_fits_the_logs_that_the_task_shows(
    client: Client, logs: LogPlan | None, parameters: dict, hint: str
) -> None:
    outcome = await wait_for_pod(client, "exit 1", {"logs": logs}, **parameters)
    assert outcome.message.endswith(f"({hint})")


async def test_a_task_that_runs_out_of_time_stops_its_pod(client: Client) -> None:
    pod = await create_pod(client, "sleep 1000")
    outcome = await lifecycle.wait(client, pod_task(pod, deadline=time.time() + 1), NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.TIMED_OUT, "ExecutionTimeout")
    assert not await pod_exists(client, pod)


async def test_a_pod_that_ended_in_time_has_succeeded_although_the_triggerer_looks_later(client: Client) -> None:
    pod = await ended_pod(client, "true")
    outcome = await lifecycle.wait(client, pod_task(pod, deadline=time.time()), NO_CALLBACKS)
    assert outcome.succeeded


@pytest.mark.parametrize("script", ["true", "exit 3"])
async def test_a_pod_that_ended_after_the_execution_timeout_while_no_triggerer_ran_has_timed_out(
    client: Client, caplog: pytest.LogCaptureFixture, script: str
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    pod = await ended_pod(client, f"echo last words; {script}")
    task = pod_task(pod, deadline=time.time() - 60, logs=LogPlan(), skip_on_exit_code=[3])
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.TIMED_OUT, "ExecutionTimeout")
    assert "execution_timeout has passed, pod default/task-" in outcome.message
    assert "has ended: " in outcome.message
    assert not task.skips(outcome)
    assert "[base] last words" in caplog.messages
    assert await pod_exists(client, pod)  # `on_finish_action` says what becomes of it


async def ended_pod(client: Client, script: str) -> dict:
    pod = await create_pod(client, script)

    async def ended() -> bool:
        found = await client.get("pods", pod["metadata"]["name"], "default")
        return found["status"]["phase"] in ("Succeeded", "Failed")

    await eventually(ended)
    return pod


async def test_a_triggerer_that_looks_after_the_execution_timeout_stops_the_pod(client: Client) -> None:
    pod = await create_pod(client, "sleep 1000")
    outcome = await lifecycle.wait(client, pod_task(pod, deadline=time.time() - 60), NO_CALLBACKS)
    assert outcome.status is OutcomeStatus.TIMED_OUT
    assert not await pod_exists(client, pod)


async def test_the_time_under_scheduling_gates_does_not_count_also_after_a_restart(client: Client) -> None:
    gated = {"spec": {"schedulingGates": [{"name": "example.com/queue"}], "containers": []}}
    pod = await create_pod(client, "true", full_pod_spec=gated, node_selector={"no": "such-node"})
    task, handle = pod_task(pod, schedule_timeout=4), PodHandle.of(client, pod)
    waiting = asyncio.create_task(lifecycle.wait(client, task, NO_CALLBACKS))
    await asyncio.sleep(4.5)  # longer than the time-out
    await handle.patch({"spec": {"schedulingGates": None}})

    async def noted() -> bool:
        return "kpo-async/ungated-at" in (await client.get("pods", task.name, "default"))["metadata"]["annotations"]

    await eventually(noted)
    waiting.cancel()
    await asyncio.wait([waiting])
    ungated = time.time()
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.NOT_STARTED, "Unschedulable")
    assert 2 < time.time() - ungated < 10


async def test_a_pod_deleted_from_outside_is_reported_as_lost(client: Client) -> None:
    pod = await create_pod(client, "sleep 1000")
    waiting = asyncio.create_task(lifecycle.wait(client, pod_task(pod), NO_CALLBACKS))
    await client.delete("pods", pod["metadata"]["name"], "default")
    outcome = await waiting
    assert (outcome.status, outcome.category) == (OutcomeStatus.LOST, "Deleted")


async def test_a_pod_that_was_gone_before_it_was_seen_is_named_with_the_possible_causes(
    client: Client,
) -> None:
    pod = await create_pod(client, "true")
    task = pod_task(pod)
    await client.delete("pods", task.name, "default", uid=task.uid, grace_period_seconds=0)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert (outcome.status, outcome.category) == (OutcomeStatus.LOST, "Deleted")
    assert outcome.message.startswith(f"pod default/{task.name} was gone before it was seen (it was deleted, or")


async def test_an_invalid_image_name_fails_at_once(client: Client) -> None:
    outcome = await wait_for_pod(client, "true", image="No Such Image!")
    assert (outcome.status, outcome.category) == (OutcomeStatus.NOT_STARTED, "ImagePull")
    assert "No Such Image!" in outcome.message


async def test_the_start_times_out_and_the_log_says_what_the_pod_waited_for(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.pod_status_log")
    outcome = await wait_for_pod(client, "true", {"schedule_timeout": 2}, node_selector={"no": "such-node"})
    assert (outcome.status, outcome.category) == (OutcomeStatus.NOT_STARTED, "Unschedulable")
    assert any("has no node yet: 0/1 nodes are available" in r.message for r in caplog.records)


@pytest.mark.parametrize(
    ("script", "how"), [("true", "succeeded with exit code 0"), ("exit 3", "failed with exit code 3")]
)
async def test_the_log_says_in_words_how_the_container_ended(
    client: Client, caplog: pytest.LogCaptureFixture, script: str, how: str
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.wait_result")
    pod = await create_pod(client, script)
    await lifecycle.wait(client, pod_task(pod), NO_CALLBACKS)
    node = (await client.list("nodes"))["items"][0]["metadata"]["name"]
    [line] = [record.message for record in caplog.records if record.name == "kpo_async.lifecycle.wait_result"]
    assert re.fullmatch(f"Pod default/{pod['metadata']['name']}: container 'base' {how} after . s on node {node}", line)


async def test_a_failure_has_its_facts_for_programs(client: Client) -> None:
    outcome = await wait_for_pod(client, "exit 3")
    assert outcome.diagnosis is not None
    facts = outcome.diagnosis.to_dict()
    assert facts.pop("pod").startswith("default/task-")
    assert facts.pop("message") == outcome.message
    assert facts.pop("node")
    assert facts == {
        "category": "ExitCode",
        "container": "base",
        "exit_code": 3,
        "reason": "Error",
        "hints": ["see the program's output in the task's log"],
    }


async def test_a_success_has_no_diagnosis(client: Client) -> None:
    assert (await wait_for_pod(client, "true")).diagnosis is None
