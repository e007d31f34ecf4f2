"""How quiet pods fare beside pods that write as fast as they can, in one triggerer with a slow supervisor.

    python benchmarks/log_flood.py [--loud 20] [--quiet 15] [--rate 57000] [--seconds 60] [--tree PATH]

This process is the supervisor: it reads 4 KiB of the triggerer's records at a time, `--rate` bytes a second. The quiet
pods write a line a second and end one after the other. `--tree` measures the kpo_async of another checkout.
Prints the latency of the quiet pods' lines (from being written to being read by the supervisor) and of their verdicts
(from the pod's end to the trigger's event), memory, stalls of the triggerer's loop, and records that were torn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpo_async.compat import timeout
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect

Json = dict[str, Any]
HERE = Path(__file__).parent / "flooding"
READ = 4096
"""Bytes read at a time, as in airflow/sdk/execution_time/supervisor.py."""
START_AFTER = 10.0
"""Seconds until the pods run: all triggers wait for them by then, and memory is measured."""
LABELS = {"kpo-async/managed": "true", "kubernetes_pod_operator": "True"}


@dataclass
class Measured:
    """What the supervisor saw. Times are in seconds."""

    quiet: set[int]
    delays: list[float] = field(default_factory=list)
    ended_at: dict[int, float] = field(default_factory=dict)
    events: dict[int, float] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    loud_bytes: dict[int, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    read: int = 0
    torn: int = 0
    largest: int = 0
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    """All quiet pods' events have come."""

    def record(self, line: bytes) -> None:
        """One line of the socket."""
        self.largest = max(self.largest, len(line))
        try:
            event = json.loads(line)
        except ValueError:
            self.torn += 1
            return
        number = event.get("trigger_id", 0) - 1
        for text in event["event"].split("\n"):
            if "kpo-async:" in text:
                self.notes.append(f"{number}: {text}")
            elif number not in self.quiet:
                self.loud_bytes[number] = self.loud_bytes.get(number, 0) + len(text)
            elif "written at " in text:
                self.delays.append(time.time() - float(text.rpartition(" ")[2]))
            elif "ended at " in text:
                self.ended_at[number] = float(text.rpartition(" ")[2])

    def report(self, line: Json) -> None:
        """One line of the triggerer's stdout."""
        if "event" in line:
            self.events[line["event"]] = line["at"]
            if self.quiet <= self.events.keys():
                self.complete.set()
        else:
            self.memory.append((line["at"], line["memory"]))
            self.stalls.append(line["stall"])


def pod(name: str, log: str, run_for: float) -> Json:
    annotations = {"flood/log": log, "sim/start-after": f"{START_AFTER}s", "sim/run-for": f"{run_for}s"}
    spec = {"restartPolicy": "Never", "containers": [{"name": "base", "image": "busybox"}]}
    return {"metadata": {"name": name, "labels": LABELS, "annotations": annotations}, "spec": spec}


def row(created: Json, kubeconfig: Path) -> Json:
    """A trigger's row for a pod."""
    metadata = created["metadata"]
    cluster = {"config_file": str(kubeconfig)}
    task = {"name": metadata["name"], "namespace": "default", "uid": metadata["uid"], "cluster": cluster}
    return task | {"version": 1, "logs": {"prefix": True}}


@asynccontextmanager
async def process(*command: str, **options: Any) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(sys.executable, *command, stdin=PIPE, stdout=PIPE, **options)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def supervise(far: socket.socket, rate: float, measured: Measured) -> None:
    loop = asyncio.get_running_loop()
    rest = b""
    due = loop.time()
    while data := await loop.sock_recv(far, READ):
        measured.read += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            measured.record(line)
        # A supervisor that had nothing to read does not read faster afterwards.
        due = max(due, loop.time() - READ / rate) + len(data) / rate
        await asyncio.sleep(due - loop.time())


async def listen(triggerer: Process, measured: Measured) -> None:
    assert triggerer.stdout is not None
    async for line in triggerer.stdout:
        measured.report(json.loads(line))


async def create_pods(client: Client, arguments: argparse.Namespace) -> list[Json]:
    """The loud pods, then the quiet ones, which end one after the other in the second half of the time."""
    half = arguments.seconds / 2
    step = half / max(1, arguments.quiet)
    bodies = [pod(f"loud-{number}", "loud", 10 * arguments.seconds) for number in range(arguments.loud)]
    bodies += [pod(f"quiet-{number}", "quiet", half + step * number) for number in range(arguments.quiet)]
    return [await client.create("pods", body, "default") for body in bodies]


async def run(arguments: argparse.Namespace) -> Measured:
    near, far = socket.socketpair()
    far.setblocking(False)
    measured = Measured(set(range(arguments.loud, arguments.loud + arguments.quiet)))
    environment = {**os.environ, "PYTHONPATH": str(arguments.tree)}
    with near, far, tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        async with process(str(HERE / "cluster.py"), str(kubeconfig)) as cluster:
            assert cluster.stdout is not None
            await cluster.stdout.readline()
            async with connect(ClusterSource(config_file=str(kubeconfig))) as client:
                rows = [row(created, kubeconfig) for created in await create_pods(client, arguments)]
            command = [str(HERE / "triggerer.py"), str(near.fileno())]
            async with process(*command, pass_fds=[near.fileno()], env=environment) as triggerer:
                assert triggerer.stdin is not None
                triggerer.stdin.write(json.dumps(rows).encode())
                triggerer.stdin.close()
                tasks = [
                    asyncio.create_task(supervise(far, arguments.rate, measured)),
                    asyncio.create_task(listen(triggerer, measured)),
                ]
                with suppress(asyncio.TimeoutError):
                    async with timeout(START_AFTER + 3 * arguments.seconds):
                        await measured.complete.wait()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    return measured


def quantiles(values: list[float]) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    p50, p95 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
    return f"p50 {p50:.2f} s, p95 {p95:.2f} s, worst {ordered[-1]:.2f} s, of {len(ordered)}"


def show(measured: Measured) -> None:
    verdicts = [
        measured.events[number] - ended for number, ended in measured.ended_at.items() if number in measured.events
    ]
    before = measured.memory[0][1] if measured.memory else 0
    peak = max((size for _, size in measured.memory), default=0)
    shares = measured.loud_bytes.values()
    print(f"quiet lines     {quantiles(measured.delays)}")
    print(f"quiet verdicts  {quantiles(verdicts)}; {len(measured.quiet - measured.events.keys())} did not come")
    print(f"memory          {before / 1e6:.0f} MB before, +{(peak - before) / 1e6:.0f} MB at its peak")
    print(f"loop stalls     {max(measured.stalls, default=0):.2f} s at most")
    print(f"records         {measured.read / 1e6:.1f} MB read, {measured.torn} torn, the largest {measured.largest}")
    print(f"loud pods       {min(shares, default=0) / 1e3:.0f} to {max(shares, default=0) / 1e3:.0f} KB each")
    print(f"notes           {len(measured.notes)}", *measured.notes[-3:], sep="\n                ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loud", type=int, default=20)
    parser.add_argument("--quiet", type=int, default=15)
    parser.add_argument("--rate", type=float, default=57_000.0, help="bytes a second that the supervisor reads")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1])
    show(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
