"""Logs of real pods in the task's log."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.names import SELECTOR
from kpo_async.pod_task import Outcome, OutcomeStatus
from tests.factories import NO_CALLBACKS, create_pod, eventually, pod_task, wait_for_pod

TASK_LOGGERS = ("kpo_async.pod_log", "kpo_async.lifecycle.task_log")
SAYS_SO = "lines that another process may have shown before are repeated"


async def test_every_line_is_emitted_once_and_in_order(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    outcome = await wait_for_pod(client, "for i in 1 2 3; do echo line $i; done; echo ERROR: oh; exit 1")
    shown = [
        (r.levelname, line) for r in caplog.records if r.name == "kpo_async.pod_log" for line in r.message.split("\n")
    ]
    assert shown == [*(("INFO", f"[base] line {i}") for i in (1, 2, 3)), ("ERROR", "[base] ERROR: oh")]
    assert outcome.logs_complete


async def test_a_failing_formatter_costs_no_line_and_is_logged_once(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def shout(container: str, line: str) -> str:
        raise ValueError("no voice")

    pod = await create_pod(client, "echo one; echo two")
    caplog.set_level(logging.INFO, logger="kpo_async")
    await lifecycle.wait(client, pod_task(pod), NO_CALLBACKS, formatter=shout)
    shown = [(r.levelname, r.message) for r in caplog.records if r.name in TASK_LOGGERS]
    warnings = [message for level, message in shown if level == "WARNING"]
    assert "[base] one\n[base] two" in "\n".join(message for _, message in shown)
    assert len(warnings) == 1
    assert "shout failed" in warnings[0]
    assert "no voice" in warnings[0]


async def test_logs_that_are_not_wanted_are_not_requested(client: Client) -> None:
    outcome = await wait_for_pod(client, "echo nobody reads this", {"logs": None})
    assert outcome.succeeded
    assert outcome.cursors == {}


async def test_the_worker_emits_the_logs_that_the_trigger_did_not(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    pod = await create_pod(client, "echo one; echo two")
    outcome = await lifecycle.wait(client, pod_task(pod, logs=None), NO_CALLBACKS)
    assert not outcome.logs_complete
    await lifecycle.emit_remaining_logs(client, pod_task(pod, logs=LogPlan(prefix=False)), outcome, NO_CALLBACKS)
    shown = [r.message for r in caplog.records if r.name == "kpo_async.pod_log"]
    assert "\n".join(shown).split("\n") == ["one", "two"]


async def test_a_worker_that_waits_for_its_pod_waits_for_a_late_rest_of_the_log_because_no_other_process_emits_it(
    client: Client, local_cluster: LocalCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpo_async.lifecycle.task_log.LOGS_TIMEOUT", 0.5)
    caplog.set_level(logging.INFO, logger="kpo_async")
    in_worker, deferred = [pod_task(await create_pod(client, "echo one; echo two")) for _ in range(2)]
    with local_cluster.faults.reset(resource="pods/log"):
        waits = [
            asyncio.create_task(lifecycle.wait(client, task, NO_CALLBACKS))
            for task in (in_worker, replace(deferred, deferred_at=time.time()))
        ]
        done, _ = await asyncio.wait(waits, timeout=8)
        assert done == {waits[1]}
    assert (await waits[0]).logs_complete
    assert not (await waits[1]).logs_complete
    shown = [r.message for r in caplog.records if r.name == "kpo_async.pod_log"]
    assert "\n".join(shown).split("\n") == ["[base] one", "[base] two"]


class Followed:
    """A pod whose first line a trigger has shown. `shown` is the task's log, record by record."""

    def __init__(self, client: Client, pod: Json, caplog: pytest.LogCaptureFixture) -> None:
        self.client, self.pod = client, pod
        caplog.set_level(logging.INFO, logger="kpo_async")
        self._caplog = caplog

    @property
    def shown(self) -> list[str]:
        return [r.message for r in self._caplog.records if r.name in TASK_LOGGERS]

    def follow(self, ago: float = 0.0, **fields: Any) -> asyncio.Task[Outcome]:
        """Follow the pod as the trigger of a task that was deferred so many seconds ago."""
        task = pod_task(self.pod, deferred_at=time.time() - ago, **fields)
        return asyncio.create_task(lifecycle.wait(self.client, task, NO_CALLBACKS), name="the trigger")

    async def shows(self, *lines: str) -> None:
        async def shown() -> bool:
            return self.shown[-len(lines) :] == list(lines)

        await eventually(shown)


@pytest.fixture
async def followed(client: Client, caplog: pytest.LogCaptureFixture) -> Followed:
    return Followed(client, await create_pod(client, "echo one; sleep 1000"), caplog)


async def ended(trigger: asyncio.Task[Outcome]) -> None:
    trigger.cancel()
    await asyncio.wait([trigger])


async def test_lines_come_again_after_a_kill_and_a_sentence_says_so_before(
    local_cluster: LocalCluster, followed: Followed
) -> None:
    first = followed.follow()
    await followed.shows("[base] one")
    with local_cluster.faults.forbid(verb="patch", resource="pods"):  # a process that is killed saves nothing either
        await ended(first)
    second = followed.follow(ago=60)
    await followed.shows(f"The log starts at its beginning: {SAYS_SO}", "[base] one")
    await ended(second)
    third = followed.follow(ago=90)
    await followed.shows("[base] one", f"The log continues where a triggerer stopped: {SAYS_SO}")
    await ended(third)


async def test_the_first_trigger_says_nothing_of_repeated_lines(followed: Followed) -> None:
    first = followed.follow()
    await followed.shows("[base] one")
    assert followed.shown == ["[base] one"]
    await ended(first)


async def test_a_worker_says_so_before_it_repeats_lines_of_a_killed_triggerer_whose_successor_broke(
    local_cluster: LocalCluster, followed: Followed
) -> None:
    first = followed.follow()
    await followed.shows("[base] one")
    with local_cluster.faults.forbid(verb="patch", resource="pods"):
        await ended(first)
    broken = Outcome(OutcomeStatus.ERROR)
    rest = lifecycle.emit_remaining_logs(followed.client, pod_task(followed.pod), broken, NO_CALLBACKS)
    worker = asyncio.create_task(rest, name="the worker")
    await followed.shows(f"The log starts at its beginning: {SAYS_SO}", "[base] one")
    worker.cancel()
    await asyncio.wait([worker])


async def test_a_worker_emits_the_whole_log_again_and_says_so(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    pod = await create_pod(client, "echo one; echo two")
    outcome = await lifecycle.wait(client, pod_task(pod), NO_CALLBACKS)
    caplog.clear()
    caplog.set_level(logging.INFO, logger="kpo_async")
    await lifecycle.emit_whole_log(client, pod_task(pod), outcome, NO_CALLBACKS)
    first, *shown = [r.message for r in caplog.records if r.name in TASK_LOGGERS]
    assert "The whole log" in first
    assert "\n".join(shown) == "[base] one\n[base] two"


async def test_a_log_that_is_gone_with_its_pod_is_said_to_be_so(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    pod = await create_pod(client, "echo one")
    outcome = await lifecycle.wait(client, pod_task(pod), NO_CALLBACKS)
    await lifecycle.pod_of(client, pod_task(pod)).delete(grace_period=0)
    async with lifecycle.pod_of(client, pod_task(pod)).subscribe(selector=SELECTOR) as feed:
        while not (await feed.next()).presence.final:
            pass
    await lifecycle.emit_whole_log(client, pod_task(pod), outcome, NO_CALLBACKS)
    assert "its log with it" in caplog.records[-1].message


async def test_a_pod_that_ran_out_of_time_is_left_to_the_worker_that_shows_its_log(client: Client) -> None:
    pod = await create_pod(client, "echo one; sleep 60")
    task = pod_task(pod, deadline=time.time() + 3, worker_shows_log=True)
    outcome = await lifecycle.wait(client, task, NO_CALLBACKS)
    assert outcome.status is OutcomeStatus.TIMED_OUT
    found = await lifecycle.pod_of(client, task).get()
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]
