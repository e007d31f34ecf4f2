"""A triggerer's event loop with N deferred pods, measured: `python -m scaling.process PORT PODS EVENTS`.

It prints a line of JSON: CPU of this process in seconds, resident memory in bytes. Each phase ends when the process has
nothing to do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from watch_event import pod

from kpo_async.logs.plan import LogPlan
from kpo_async.pod_task import ClusterRef, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
from scaling.server import LOG_WORDS

QUIET = 0.3
"""Seconds in which the process uses less than a hundredth of a CPU once it has nothing to do."""


class Triggers:
    """The triggers of pods 0 to `pods` - 1."""

    def __init__(self, kubeconfig: Path, pods: int) -> None:
        self.kubeconfig = kubeconfig
        self.pods = pods
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, logs: LogPlan | None = None, count: int | None = None) -> None:
        for number in range(self.pods if count is None else count):
            self.tasks.append(asyncio.create_task(self._run(number, logs)))
            await asyncio.sleep(0)  # as the triggerer does

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def _run(self, number: int, logs: LogPlan | None) -> None:
        data = pod(number, 1)["metadata"]
        cluster = ClusterRef(config_file=str(self.kubeconfig), in_cluster=False)
        task = PodTask(
            data["name"],
            data["namespace"],
            data["uid"],
            cluster=cluster,
            logs=logs,
            on_finish_action="keep_pod",
            events_on_startup=False,
        )
        async for _ in KubernetesPodTrigger(task.to_dict()).run():
            return


async def settle() -> None:
    """Wait until the process has nothing to do."""
    while True:
        before = time.process_time()
        await asyncio.sleep(QUIET)
        if time.process_time() - before < QUIET / 100:
            return


def memory() -> int:
    """Return the resident memory in bytes."""
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS"))


class Stalls:
    """The longest time for which the event loop did not turn since it was last asked for."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.task = asyncio.create_task(self._look(), name="stalls")

    def take(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.longest = max(self.longest, loop.time() - due)


async def measure(port: int, pods: int, events: int, folder: Path) -> dict[str, Any]:
    """Start the triggers of all pods, change pods, follow a log, end the pods."""
    kubeconfig = folder / "kubeconfig"
    server = f"http://127.0.0.1:{port}"
    kubeconfig.write_text(yaml.safe_dump({
        "clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c",
    }))  # fmt: skip
    found: dict[str, Any] = {"pods": pods, "events": events}
    triggers, stalls = Triggers(kubeconfig, pods), Stalls()
    async with aiohttp.ClientSession(server) as orders:
        logging_one = Triggers(kubeconfig, 1)
        await settle()
        stalls.take()
        found["idle_memory"], cpu = memory(), time.process_time()
        await triggers.start()
        await settle()
        found["memory"], found["start_cpu"] = memory(), time.process_time() - cpu
        found["start_stall"], cpu = stalls.take(), time.process_time()
        await orders.post("/change", params={"events": events})
        await settle()
        found["event_stall"] = stalls.take()
        found["event_cpu"], cpu = time.process_time() - cpu, time.process_time()
        await logging_one.start(LogPlan(containers=["base"], init_containers=[], prefix=True))
        await settle()
        found["log_cpu"], found["log_stall"] = time.process_time() - cpu, stalls.take()
        await logging_one.stop()
        await settle()
        stalls.take()
        cpu = time.process_time()
        await orders.post("/end")
        await asyncio.gather(*triggers.tasks)
        found["end_cpu"] = time.process_time() - cpu
        await asyncio.sleep(0.1)
    found["end_stall"] = stalls.take()
    stalls.task.cancel()
    return found


if __name__ == "__main__":
    from airflow.sdk.log import configure_logging, reset_logging

    out, sys.stdout = sys.stdout, sys.stderr
    reset_logging()
    with tempfile.TemporaryDirectory() as home:
        records = Path(home, "records")
        with records.open("wb", buffering=0) as file:
            configure_logging(json_output=True, output=file, sending_to_supervisor=True)
            logging.getLogger().setLevel(logging.INFO)
            result = asyncio.run(measure(*(int(word) for word in sys.argv[1:]), Path(home)))
        result["lines"] = records.read_text().count(LOG_WORDS)
    print(json.dumps(result), file=out)
