"""Pods on the embedded API server, without a kubelet, and the faults of that server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, cast

from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.watch import Presence, follow
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.localcluster.node import Kubelet
from kpo_async.pod.status import assess

FAULT_SECONDS = 10.0
WHEN = "2026-11-21T09:00:00Z"
Breaking = Callable[[LocalCluster], AbstractAsyncContextManager[Any]]


class NoKubelet:
    """A node without a kubelet."""

    def __init__(self) -> None:
        self.started = asyncio.Event()

    async def run(self) -> None:
        self.started.set()
        await asyncio.Event().wait()


def pod(number: int) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": f"p{number}", "namespace": "default", "labels": {"our": "own"}},
        "spec": {"nodeName": "no-node", "containers": [{"name": "base", "image": "x"}]},
        "status": {"phase": "Running"},
    }


def exit_code(number: int) -> int:
    return number % 3


def end(cluster: LocalCluster, number: int) -> None:
    """Write the status that a kubelet writes when the container has ended."""
    ended = {"exitCode": exit_code(number), "startedAt": WHEN, "finishedAt": WHEN, "reason": "Completed"}
    container = {
        "name": "base",
        "image": "x",
        "imageID": "x",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": "Failed" if exit_code(number) else "Succeeded", "containerStatuses": [container]}
    cluster.store.update("pods", {**cluster.store.get("pods", "default", f"p{number}"), "status": status})


async def verdict(client: Client, name: str, uid: str) -> int:
    """The exit code, as a subscriber receives it."""
    async with follow(client, "default", name, uid, selector="our=own") as subscription:
        while True:
            view = await subscription.next()
            assert view.presence in (Presence.UNKNOWN, Presence.PRESENT)
            if view.pod and (code := assess(view.pod, "base").exit_code) is not None:
                return code


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[LocalCluster, Client]]:
    """An embedded API server, and a client of it."""
    async with (
        LocalCluster(tls=False, kubelet=lambda _: cast(Kubelet, NoKubelet())) as cluster,
        Client(ClusterConfig(cluster.url, identity=cluster.url)) as client,
    ):
        yield cluster, client


@asynccontextmanager
async def repeated(strike: Callable[[], object], every: float) -> AsyncIterator[None]:
    """Call `strike` again and again, `every` seconds."""

    async def again() -> None:
        while True:
            strike()
            await asyncio.sleep(every)

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def at_once(strike: Callable[[], object]) -> AsyncIterator[None]:
    strike()
    yield


@asynccontextmanager
async def restarted(cluster: LocalCluster, *, keep_history: bool) -> AsyncIterator[None]:
    await cluster.restart(keep_history=keep_history, down=FAULT_SECONDS)
    yield


@asynccontextmanager
async def during(fault: Any) -> AsyncIterator[None]:
    """A sync or async context manager as an async one."""
    async with AsyncExitStack() as stack:
        if hasattr(fault, "__aenter__"):
            await stack.enter_async_context(fault)
        else:
            stack.enter_context(fault)
        yield


FAULTS: dict[str, Breaking] = {
    "none": lambda cluster: nullcontext(),
    "connections refused": lambda cluster: cluster.faults.refuse(),
    "restart": lambda cluster: restarted(cluster, keep_history=True),
    "restart without history": lambda cluster: restarted(cluster, keep_history=False),
    "connections cut": lambda cluster: repeated(cluster.cut_connections, 1.0),
    "lines cut": lambda cluster: during(cluster.faults.cut(verb="watch")),
    "requests reset": lambda cluster: during(cluster.faults.reset()),
    "429": lambda cluster: during(cluster.faults.throttle(retry_after=2)),
    "500": lambda cluster: during(cluster.faults.fail(500)),
    "502": lambda cluster: during(cluster.faults.fail(502)),
    "503": lambda cluster: during(cluster.faults.fail(503)),
    "504": lambda cluster: during(cluster.faults.fail(504)),
    "403": lambda cluster: during(cluster.faults.forbid()),
    "401": lambda cluster: during(cluster.faults.unauthorize()),
    "410 in the stream": lambda cluster: repeated(cluster.expire_watches, 1.0),
    "410 for new watches": lambda cluster: during(cluster.faults.expire(verb="watch")),
    "compaction": lambda cluster: at_once(cluster.faults.compact),
    "compaction and cut": lambda cluster: at_once(lambda: (cluster.faults.compact(), cluster.cut_connections())),
    "events twice": lambda cluster: during(cluster.faults.duplicate()),
    "byte by byte": lambda cluster: during(cluster.faults.fragment(200)),
    "late": lambda cluster: during(cluster.faults.delay(0.2)),
    "cache behind": lambda cluster: during(cluster.faults.lag()),
    "half-open, then on": lambda cluster: during(cluster.faults.half_open()),
    "half-open, then reset": lambda cluster: during(cluster.faults.half_open(reset=True)),
    "silent": lambda cluster: during(cluster.faults.half_open(times=1)),
    "rewound": lambda cluster: at_once(lambda: cluster.faults.rewind(150)),
}
SLOW = {"half-open, then on", "half-open, then reset", "silent", "rewound"}
"""Faults that only silence reveals: found once the next bookmark is overdue."""
