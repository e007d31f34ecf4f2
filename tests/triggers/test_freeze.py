"""A triggerer's process is frozen for longer than Airflow leaves it its triggers, and thaws."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.names import CURSORS_ANNOTATION
from tests.factories import eventually, identity, manifest, owner, pod_exists, pod_task
from tests.triggers.freezable import EVERY

FROZEN = 4.0
"""Seconds. With the settings below the lease lapses after two."""
SETTINGS = {
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
}
LINES = 40
COUNTS = f"i=0; while [ $i -lt {LINES} ]; do i=$((i + 1)); echo count $i; sleep 0.2; done"


class TriggererProcess:
    """The process, and what it has written into the task's log."""

    def __init__(self, process: asyncio.subprocess.Process, pod: Json) -> None:
        self._process = process
        self.pod = pod
        self.log: list[str] = []

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.log += [line.decode().rstrip("\n")]

    @property
    def counted(self) -> list[int]:
        return [int(number) for number in re.findall(r"\[base\] count (\d+)", "\n".join(self.log))]

    async def counts(self) -> None:
        async def some() -> bool:
            return len(self.counted) > 2

        await eventually(some)

    async def freeze(self) -> None:
        await asyncio.sleep(2 * EVERY)  # the first exchanges, with which the lease begins
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN)

    async def move_trigger(self) -> None:
        """Give its trigger to another triggerer."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"moved\n")
        await self._process.stdin.drain()

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def ended(self) -> None:
        assert await self._process.wait() == 0

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


Start = Callable[[str], Awaitable[TriggererProcess]]


@pytest.fixture
async def start(local_cluster: LocalCluster, local_client: Client) -> AsyncIterator[Start]:
    """Start the trigger of a pod that runs this script, in a triggerer that ends tasks itself."""
    async with AsyncExitStack() as stack:

        async def start(script: str) -> TriggererProcess:
            return await stack.enter_async_context(_started(local_cluster, local_client, script))

        yield start


@asynccontextmanager
async def _started(cluster: LocalCluster, client: Client, script: str) -> AsyncIterator[TriggererProcess]:
    task = identity()
    pod = await lifecycle.ensure_pod(client, manifest(task, script), owner(task))
    row = pod_task(pod, str(cluster.kubeconfig), end_from_trigger=True, deferred_at=1.0)
    stored = {"pod_task": row.to_dict(), "identity": dataclasses.asdict(task)}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout"), asyncio.subprocess.PIPE)
    command = [sys.executable, "-m", "tests.triggers.freezable", json.dumps(stored)]
    triggerer = TriggererProcess(
        await asyncio.create_subprocess_exec(*command, env={**os.environ, **SETTINGS}, **pipes), pod
    )
    reading = asyncio.create_task(triggerer.read(), name="standard output")
    try:
        yield triggerer
    finally:
        triggerer.kill()
        await reading
        await triggerer._process.wait()


async def test_a_thawed_triggerer_that_has_its_triggers_goes_on_with_each_line_once(
    start: Start, local_client: Client
) -> None:
    triggerer = await start(COUNTS)
    await triggerer.counts()
    await triggerer.freeze()
    triggerer.thaw()
    await triggerer.ended()
    assert triggerer.counted == list(range(1, LINES + 1))
    assert not await pod_exists(local_client, triggerer.pod)


@pytest.mark.parametrize("lost", [False, True], ids=["the pod runs on", "it was deleted meanwhile"])
async def test_a_thawed_triggerer_whose_triggers_have_moved_shows_nothing_and_does_nothing(
    start: Start, local_client: Client, lost: bool
) -> None:
    triggerer = await start(f"{COUNTS}; sleep 1000")
    await triggerer.counts()
    await triggerer.freeze()
    if lost:
        await local_client.delete("pods", triggerer.pod["metadata"]["name"], "default", grace_period_seconds=0)
    log = list(triggerer.log)
    await triggerer.move_trigger()
    triggerer.thaw()
    await triggerer.ended()
    assert [line for line in triggerer.log[len(log) :] if line.startswith("kpo_async")] == []
    if not lost:
        found = await local_client.get("pods", triggerer.pod["metadata"]["name"], "default")
        assert "deletionTimestamp" not in found["metadata"]
        assert CURSORS_ANNOTATION not in found["metadata"]["annotations"]
