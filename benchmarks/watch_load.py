"""What N deferred pods cost the process that waits for them, and how late it learns of their ends.

    KUBECONFIG=... python benchmarks/watch_load.py --pods 1000 --over 40 --who both [--repeat 3] [--profile]

Every run has a namespace of its own with N simulated pods that end evenly over some seconds: on kwok's nodes where
there are any, else as pods whose status this program writes. Meanwhile three processes: this one, the measured one
(`watching/process.py`) and a witness (`watching/witness.py`), against which each trigger's lag is taken. Runs of ours
and of the incumbent alternate. Without a kubeconfig all this happens on the embedded cluster. Writes JSON, a Markdown
table and a picture to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watching.report import Report, summarize
from watching.witness import RawCluster

from kpo_async.demo.cluster import open_cluster
from kpo_async.exceptions import ApiError, NotFoundError
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client

Json = dict[str, Any]
HERE = Path(__file__).parent
RESULTS = HERE / "results"
LABELS = {"bench": "watch-load", "kpo-async/managed": "true", "kubernetes_pod_operator": "True"}
CREATES = 100
"""Pods created a second, about what a scheduler places."""


def pod(name: str, run_for: float, kwok: bool) -> Json:
    """A pod that does nothing, for `run_for` seconds."""
    spec: Json = {"restartPolicy": "Never", "containers": [{"name": "base", "image": "busybox:1.36"}]}
    if kwok:
        spec["nodeSelector"] = {"type": "kwok"}
        spec["tolerations"] = [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}]
    else:
        spec["nodeName"] = "simulated"
    annotations = {"sim/run-for": f"{run_for * 1000:.0f}ms"}
    return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "labels": LABELS, "annotations": annotations}}  # fmt: skip


def status(phase: str) -> Json:
    """What a kubelet would write."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    state: Json = {"running": {"startedAt": now}}
    if phase == "Succeeded":
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
        state = {"running": None, "terminated": ended}
    container = {"name": "base", "image": "busybox:1.36", "imageID": "", "ready": False, "restartCount": 0}
    return {"status": {"phase": phase, "startTime": now, "containerStatuses": [{**container, "state": state}]}}


@dataclass
class Simulation:
    """The pods of one run."""

    client: Client
    namespace: str
    kwok: bool
    ends: dict[str, float]
    """Pod -> when it shall end, seconds since the epoch."""
    uids: dict[str, str]

    async def create(self) -> None:
        """All pods, created as fast as a scheduler takes them and running when this returns."""
        limit = asyncio.Semaphore(16)

        async def one(name: str, end: float) -> None:
            async with limit:
                body = pod(name, end - time.time(), self.kwok)
                created = await self.client.create("pods", body, self.namespace)
                self.uids[name] = created["metadata"]["uid"]
                if not self.kwok:
                    await self.client.patch("pods/status", name, status("Running"), self.namespace)

        await asyncio.gather(*(one(name, end) for name, end in self.ends.items()))

    async def end(self) -> None:
        """Write the ends of pods that nobody else simulates."""
        if self.kwok:
            return
        for name, end in self.ends.items():
            await asyncio.sleep(max(0.0, end - time.time()))
            await self.client.patch("pods/status", name, status("Succeeded"), self.namespace)


@asynccontextmanager
async def simulation(client: Client, arguments: argparse.Namespace) -> AsyncIterator[Simulation]:
    """A namespace with its pods, deleted in the end."""
    namespace = f"kpo-bench-{secrets.token_hex(3)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    await client.create("namespaces", body)
    try:
        await service_account(client, namespace)
        kwok = bool((await client.list("nodes", label_selector="type=kwok"))["items"])
        first = time.time() + arguments.pods / CREATES + arguments.settle
        step = arguments.over / arguments.pods
        ends = {f"load-{number:05}": first + number * step for number in range(arguments.pods)}
        yield Simulation(client, namespace, kwok, ends, {})
    finally:
        await client.delete("namespaces", namespace)


async def service_account(client: Client, namespace: str) -> None:
    """Pods are refused until the namespace has its default service account."""
    for _ in range(50):
        try:
            await client.get("serviceaccounts", "default", namespace)
        except NotFoundError:
            await asyncio.sleep(0.2)
        else:
            return


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[Process]:
    """A Python process of this directory, ended with the block."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=PIPE, stdout=PIPE, cwd=HERE, limit=2**26
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


async def said(speaker: Process) -> str:
    """The next line of a process."""
    assert speaker.stdout is not None
    line = await speaker.stdout.readline()
    if not line:
        raise RuntimeError(f"process {speaker.pid} ended without a word")
    return line.decode().strip()


def tell(listener: Process, orders: Any) -> None:
    """Give a process its orders."""
    assert listener.stdin is not None
    listener.stdin.write(json.dumps(orders).encode() + b"\n")


async def run(who: str, client: Client, arguments: argparse.Namespace) -> Json:
    """One run: pods, witness, triggers, and what came out."""
    cluster = RawCluster(arguments.kubeconfig)
    seen = RESULTS / f".witness-{os.getpid()}.json"
    async with process("watching/process.py") as measured:
        tell(measured, [who, arguments.profile])
        await said(measured)
        async with (
            simulation(client, arguments) as pods,
            process("watching/witness.py", arguments.kubeconfig, pods.namespace, str(seen)) as witness,
        ):
            await said(witness)
            await pods.create()
            before = cluster.requests_about_pods()
            where = {"kubeconfig": arguments.kubeconfig}
            seconds = arguments.over + arguments.settle + 300
            tell(measured, {**where, "namespace": pods.namespace, "pods": pods.uids, "seconds": seconds})
            ending = asyncio.create_task(pods.end())
            result: Json = json.loads(await said(measured))
            await ending
            after = cluster.requests_about_pods()
    witnessed = json.loads(seen.read_text())
    seen.unlink()
    late = sum(end < result["began"] for end in witnessed.values())
    fired: dict[str, float] = result.pop("fired")
    lags = sorted(at - witnessed[name] for name, at in fired.items() if name in witnessed)
    return {
        **result,
        "who": who,
        "pods": arguments.pods,
        "over": arguments.over,
        "fired": len(fired),
        "lags": lags,
        "ended_before_start": late,
        "server_requests": dict(after - before),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--over", type=float, default=40, help="seconds over which the pods end")
    parser.add_argument("--settle", type=float, default=30, help="seconds from the last creation to the first end")
    parser.add_argument("--who", choices=["ours", "trigger", "incumbent", "both", "all"], default="both")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--profile", action="store_true", help="show where the measured process spends its time")
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG", ""))
    parser.add_argument("--name", default="watch_load", help="of the files in benchmarks/results/")
    arguments = parser.parse_args()
    groups = {"both": ["ours", "incumbent"], "all": ["ours", "trigger", "incumbent"]}
    RESULTS.mkdir(exist_ok=True)
    report = Report(RESULTS / arguments.name)
    async with AsyncExitStack() as stack:
        if not arguments.kubeconfig:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            arguments.kubeconfig = str((await stack.enter_async_context(open_cluster(None, folder))).kubeconfig)
        config = await load(ClusterSource(config_file=arguments.kubeconfig))
        client = await stack.enter_async_context(Client(config, rate=CREATES * 2, burst=CREATES))
        for _ in range(arguments.repeat):
            for who in groups.get(arguments.who, [arguments.who]):
                try:
                    result = await run(who, client, arguments)
                except ApiError as error:
                    raise SystemExit(f"watch_load: {error}") from error
                if profile := result.pop("profile", None):
                    print(profile)
                print(summarize(result), flush=True)
                report.add(result)
    report.write()


if __name__ == "__main__":
    asyncio.run(main())
