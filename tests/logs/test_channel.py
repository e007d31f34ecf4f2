"""Records are waited for until the supervisor has read them; the loop never blocks on a full socket."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import pytest

from kpo_async import lifecycle
from kpo_async.compat import timeout
from kpo_async.kube.client import Client
from kpo_async.lifecycle import task_log
from kpo_async.logs import channel
from kpo_async.logs.emitter import Emitter
from kpo_async.logs.lines import LogLine
from kpo_async.logs.plan import line_format
from kpo_async.logs.records import LogRecord
from kpo_async.logs.scheduler import UNREAD_BYTES
from tests.factories import NO_CALLBACKS, create_pod, pod_task
from tests.logs.supervisor import Supervisor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not say what is unread")
log = logging.getLogger("a task")


async def read_all(supervisor: Supervisor) -> None:
    """Read all there is, for ever."""
    while True:
        supervisor.read()
        await asyncio.sleep(channel.POLL_INTERVAL)


async def test_a_log_without_a_socket_is_not_waited_for() -> None:
    assert channel.unread_bytes() == 0
    async with timeout(1):
        await channel.wait_until_read()


async def test_records_are_waited_for_until_they_are_read(supervisor: Supervisor) -> None:
    log.info("x" * 10_000)
    waiting = asyncio.create_task(channel.wait_until_read())
    await asyncio.wait([waiting], timeout=3 * channel.POLL_INTERVAL)
    assert not waiting.done()
    assert supervisor.read() > 10_000
    async with timeout(5):
        await waiting


async def test_a_task_waits_for_room_before_it_would_block_the_loop(supervisor: Supervisor) -> None:
    async with timeout(1):
        await channel.wait_for_room()
    while channel.unread_bytes() <= channel.FULL_BYTES:
        log.info("x" * 400)
    waiting = [asyncio.create_task(channel.wait_for_room()) for _ in range(3)]
    await asyncio.wait(waiting, timeout=3 * channel.POLL_INTERVAL)
    assert not any(task.done() for task in waiting)
    supervisor.read()
    async with timeout(5):
        await asyncio.gather(*waiting)


async def test_records_logged_meanwhile_are_not_waited_for(supervisor: Supervisor) -> None:
    log.info("x" * 10_000)
    waiting = asyncio.create_task(channel.wait_until_read())
    async with timeout(5):
        while not waiting.done():
            await asyncio.sleep(channel.POLL_INTERVAL)
            supervisor.read()
            await asyncio.sleep(channel.POLL_INTERVAL)
            log.info("y" * 1000)
    assert channel.unread_bytes() > 0


async def test_records_are_waited_for_no_longer_while_others_write_as_much_as_is_read(supervisor: Supervisor) -> None:
    """A supervisor that never catches up still reads in the order of writing."""

    def sink(record: LogRecord) -> None:
        log.info(record.text)

    emitter = Emitter(line_format(prefix=False), sink)
    emitter.put([LogLine("base", "", "x" * 1000)] * 200)
    await asyncio.sleep(0.2)
    unread = channel.unread_bytes()
    waiting = asyncio.create_task(channel.wait_until_read())
    received = 0
    while not waiting.done():
        received += supervisor.read_some()
        assert received <= unread + 2 * 4096
        await asyncio.sleep(2 * channel.POLL_INTERVAL)
    assert channel.unread_bytes() > unread / 2
    supervisor.read()
    await emitter.aclose()


async def test_a_long_log_does_not_fill_the_socket(supervisor: Supervisor) -> None:
    """Writing into a full socket would block the loop; in this test, it would lose the record."""

    def sink(record: LogRecord) -> None:
        log.info(record.text)

    lines = [LogLine("base", "2026-11-21T09:00:00.0Z", f"{n} " + "z" * 200) for n in range(5000)]
    emitter = Emitter(line_format(prefix=False), sink)
    emitter.put(lines)
    emitting = asyncio.create_task(emitter.wait_until_empty())
    highest = received = 0
    async with timeout(60):
        while not emitting.done():
            await asyncio.sleep(0)
            highest = max(highest, channel.unread_bytes())
            received += supervisor.read() if highest > UNREAD_BYTES else 0
    received += supervisor.read()
    assert received == sum(len(line.text) + 1 for line in lines)
    await emitter.aclose()


@pytest.mark.parametrize("end_from_trigger", [False, True])
async def test_the_verdict_does_not_wait_for_a_log_that_is_far_behind_and_a_worker_emits_the_rest(
    local_client: Client,
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    end_from_trigger: bool,
) -> None:
    monkeypatch.setattr(task_log, "LOGS_TIMEOUT", 0.5)
    caplog.set_level(logging.INFO, logger="kpo_async")
    pod = await create_pod(local_client, "seq 30000")
    task = pod_task(pod, end_from_trigger=end_from_trigger, deferred_at=time.time())
    outcome = await lifecycle.wait(local_client, task, NO_CALLBACKS)
    assert outcome.succeeded
    assert not outcome.logs_complete
    assert any("A worker continues the log" in message for message in caplog.messages)
    assert any("more lines were read and not shown" in message for message in caplog.messages)
    reading = asyncio.create_task(read_all(supervisor))
    await lifecycle.emit_remaining_logs(local_client, task, outcome, NO_CALLBACKS)
    reading.cancel()
    await asyncio.wait([reading])
    records = [record.message for record in caplog.records if record.name == "kpo_async.pod_log"]
    shown = [
        line.removeprefix("[base] ") for record in records for line in record.split("\n") if "kpo-async" not in line
    ]
    assert shown == [str(number) for number in range(1, 30001)]
