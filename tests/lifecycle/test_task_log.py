"""Logs of real pods in the task's log."""

from __future__ import annotations

import logging

import pytest

from kpo_async import lifecycle
from kpo_async.kube.client import Client
from kpo_async.logs.plan import LogPlan
from tests.factories import NO_CALLBACKS, create_pod, pod_task, wait_for_pod

TASK_LOGGERS = ("kpo_async.pod_log", "kpo_async.lifecycle.task_log")


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
