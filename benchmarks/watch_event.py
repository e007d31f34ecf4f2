"""What one watch event costs: cutting and typed decoding, the watch, the store, waking the follower.

    python benchmarks/watch_event.py [--pods 1000] [--events 20000] [--repeat 5]

No network: the bytes of real-looking events (3 KB, a third of it managedFields) come from memory, in chunks as a socket
would give them, through the real watch and the real informer on a real event loop. Each row adds one stage; its cost is
the difference to the row before. The budget up to the wake-up is 30 us of CPU; what the follower then makes of the pod
is the last row. Each stage runs with and without metrics being collected, in turn: the least of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import cache
from statistics import median
from typing import Any, cast

from kpo_async import metrics
from kpo_async.api_types import Pod
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.errors import Action
from kpo_async.kube.watch import Apply, follow, watch_pods
from kpo_async.kube.watch.decode import LineSplitter, decode_line
from kpo_async.pod.status import assess

Json = dict[str, Any]
CHUNK = 2**16
WHEN = "2026-11-21T09:00:00Z"
FIELDS: Json = {f"f:{name}": {".": {}, "f:a": {}, "f:b": {}} for name in ("metadata", "spec", "status", "conditions")}


def pod(number: int, version: int) -> Json:
    """A pod as an operator makes it and a server shows it."""
    labels = {"dag_id": "etl", "task_id": "load", "run_id": "manual", "try_number": "1", "kpo-async/managed": "true"}
    managed = [
        {"manager": who, "operation": "Update", "time": WHEN, "fieldsV1": FIELDS} for who in ("kpo", "kubelet") * 2
    ]
    mount = {"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    container = {"name": "base", "image": "busybox:1.36", "command": ["sh", "-c", "sleep 30"], "volumeMounts": [mount],
                 "env": [{"name": f"VARIABLE_{n}", "value": "value"} for n in range(8)], "resources": {},
                 "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent"}  # fmt: skip
    names = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": f"etl-load-{number:08}", "namespace": "airflow", "uid": f"6b1f1c1e-7c5b-4c63-9d3e-{number:012}",
            "resourceVersion": str(version), "creationTimestamp": WHEN, "labels": labels, "managedFields": managed,
        },
        "spec": {
            "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}],
            "containers": [container], "restartPolicy": "Never", "nodeName": "node-1", "serviceAccountName": "default",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}] * 2,
        },
        "status": {
            "phase": "Running", "startTime": WHEN, "hostIP": "10.0.0.1", "podIP": "10.0.0.2", "qosClass": "BestEffort",
            "conditions": [{"type": name, "status": "True", "lastTransitionTime": WHEN} for name in names],
            "containerStatuses": [
                {"name": "base", "image": "busybox:1.36", "imageID": "sha256:0", "containerID": "containerd://0",
                 "ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": WHEN}}}],
        },
    }  # fmt: skip


def line(kind: str, thing: Json) -> bytes:
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"


class Recorded:
    """Stands where a client stands: one watch, from memory."""

    def __init__(self, first: bytes, then: bytes) -> None:
        self.config = ClusterConfig(server="https://recorded", identity="recorded")
        self.first = first
        self.then = then
        self.go = asyncio.Event()

    def on_close(self, close: Callable[[], Any]) -> Callable[[], None]:
        return lambda: None

    @asynccontextmanager
    async def watch(self, *_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self.chunks()

    async def chunks(self) -> AsyncIterator[bytes]:
        for body in (self.first, self.then):
            for start in range(0, len(body), CHUNK):
                yield body[start : start + CHUNK]
                await asyncio.sleep(0)  # as a socket does: the next chunk comes with the next turn of the loop
            await self.go.wait()
        await asyncio.Event().wait()


@cache
def bodies(pods: int, events: int) -> tuple[bytes, bytes]:
    """Return the bytes of the initial events and of the others."""
    marker = {"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}
    first = b"".join(line("ADDED", pod(number, 1)) for number in range(pods)) + line("BOOKMARK", marker)
    return first, b"".join(line("MODIFIED", pod(number % pods, 10 + number)) for number in range(events))


def decoding(source: Recorded) -> float:
    """Seconds of CPU for cutting into lines and decoding."""
    lines, action, began = LineSplitter(), Action("watch", "pods"), time.process_time()
    for start in range(0, len(source.then), CHUNK):
        for one in lines.feed(source.then[start : start + CHUNK]):
            decode_line(one, action)
    return time.process_time() - began


async def watching(source: Recorded, last: str) -> float:
    """The same, and the watch."""
    began = 0.0
    async with aclosing(watch_pods(cast(Client, source), "ns")) as events:
        async for event in events:
            if isinstance(event, Apply):
                if event.pod.metadata.resource_version == last:
                    break
            elif not source.go.is_set():
                source.go.set()
                began = time.process_time()
    return time.process_time() - began


async def informing(source: Recorded, last: str, numbers: Sequence[int], look: Callable[[Pod], object]) -> float:
    """The same, and the store; and waking the followers of `numbers`, which `look` at what they get."""
    woken = asyncio.Event()
    ready = asyncio.Semaphore(0)

    async def one(number: int) -> None:
        data = pod(number, 1)["metadata"]
        async with follow(cast(Client, source), "ns", data["name"], data["uid"], selector="a=b") as subscription:
            await subscription.next()
            ready.release()
            while True:
                view = await subscription.next()
                assert view.pod is not None
                look(view.pod)
                if view.pod.metadata.resource_version == last:
                    woken.set()

    async with AsyncExitStack() as stack:
        tasks = [asyncio.create_task(one(number)) for number in numbers]
        stack.callback(lambda: [task.cancel() for task in tasks])
        for _ in tasks:
            await ready.acquire()
        began = time.process_time()
        source.go.set()
        await woken.wait()
        return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--events", type=int, default=20000)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    pods, events, repeat = arguments.pods, arguments.events, arguments.repeat
    last = str(9 + events)

    async def stage(name: str) -> float:
        source = Recorded(*bodies(pods, events))
        if name == "decode":
            return decoding(source)
        if name == "watch":
            return await watching(source, last)
        if name == "store":
            return await informing(source, last, [(events - 1) % pods], lambda pod: None)
        look = (lambda pod: assess(pod, "base")) if name == "verdict" else (lambda pod: None)
        return await informing(source, last, range(pods), look)

    def cost(name: str, *, collecting: bool) -> float:
        """Microseconds of CPU per event."""
        (metrics.collect if collecting else metrics.stop_collecting)()
        return asyncio.run(stage(name)) / events * 1e6

    size = len(line("MODIFIED", pod(1, 100000)))
    print(f"{events} events of {size} bytes for {pods} pods; microseconds of CPU per event")
    before = 0.0
    for name in ("decode", "watch", "store", "wake-up", "verdict"):
        runs = [(cost(name, collecting=False), cost(name, collecting=True)) for _ in range(repeat)]
        without, collected = map(min, zip(*runs, strict=True))
        ratio = median(b / a for a, b in runs)
        print(
            f"  {name:8} {without - before:6.1f}   sum {without:6.1f}"
            f"   with metrics {collected:6.1f}, x {collected / without:.3f}, median of pairs x {ratio:.3f}"
        )
        before = without


if __name__ == "__main__":
    main()
