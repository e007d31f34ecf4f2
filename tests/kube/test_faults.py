"""200 running pods, one fault after the other: every verdict right, soon after the fault's end, with few requests.

Against the embedded API server, without a kubelet: the test itself writes what a kubelet would. Time is virtual.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from itertools import pairwise
from typing import Any, cast

import pytest

from kpo_async.kube.client import Client
from kpo_async.kube.config import ClusterConfig
from kpo_async.kube.informer import Presence, follow
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.localcluster.node import Kubelet
from kpo_async.pod.status import assess

pytestmark = pytest.mark.virtual_time

PODS = 200
BEGIN, END = 5.0, 15.0
"""Seconds from the start of the lives to the fault, and to its end."""
LIVES = 18.0
"""Seconds over which the pods end."""
WHEN = "2026-11-21T09:00:00Z"
Breaking = Callable[[LocalCluster], AbstractAsyncContextManager[Any]]


class NoKubelet:
    """A node that nobody serves."""

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
        "spec": {"nodeName": "nobody's", "containers": [{"name": "base", "image": "x"}]},
        "status": {"phase": "Running"},
    }


def exit_code(number: int) -> int:
    return number % 3


def end(cluster: LocalCluster, number: int) -> None:
    """Write what a kubelet writes when the container has ended."""
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
    """The exit code, as a follower learns it."""
    async with follow(client, "default", name, uid, selector="our=own") as subscription:
        while True:
            view = await subscription.next()
            assert view.presence in (Presence.UNKNOWN, Presence.PRESENT)
            if view.pod and (code := assess(view.pod, "base").exit_code) is not None:
                return code


async def count(cluster: LocalCluster, counts: list[int]) -> None:
    """How many requests had arrived, every second."""
    while True:
        counts.append(cluster.requests.count())
        await asyncio.sleep(1)


@asynccontextmanager
async def running_pods() -> AsyncIterator[tuple[LocalCluster, list[str]]]:
    async with LocalCluster(tls=False, kubelet=lambda _: cast(Kubelet, NoKubelet())) as cluster:
        yield cluster, [cluster.store.create("pods", pod(number))["metadata"]["uid"] for number in range(PODS)]


async def live(cluster: LocalCluster) -> None:
    """All pods end, a few at a time."""
    for number in range(PODS):
        if number % 5 == 0:
            await asyncio.sleep(LIVES / PODS * 5)
        end(cluster, number)


@asynccontextmanager
async def repeated(strike: Callable[[], object], every: float) -> AsyncIterator[None]:
    """Something that happens again and again."""

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
    await cluster.restart(keep_history=keep_history, down=END - BEGIN)
    yield


@asynccontextmanager
async def during(fault: Any) -> AsyncIterator[None]:
    """A fault as `async with`, whichever way it is one."""
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
"""Only silence tells: found when nothing has come for as long as bookmarks take."""


@pytest.mark.parametrize("name", FAULTS)
async def test_every_verdict_is_right_and_in_time(name: str) -> None:
    async with running_pods() as (cluster, uids), Client(ClusterConfig(cluster.url, identity=cluster.url)) as client:
        clock = asyncio.get_running_loop().time
        followers = [asyncio.create_task(verdict(client, f"p{number}", uid)) for number, uid in enumerate(uids)]
        counts: list[int] = []
        counting = asyncio.create_task(count(cluster, counts))
        living = asyncio.create_task(live(cluster))
        await asyncio.sleep(BEGIN)
        lists = cluster.requests.count("LIST")
        fault_began = clock()
        async with FAULTS[name](cluster):
            await asyncio.sleep(max(0.0, END - BEGIN - (clock() - fault_began)))
        over = clock()
        await living
        codes = await asyncio.gather(*followers)
        late = clock() - over
        counting.cancel()
    assert codes == [exit_code(number) for number in range(PODS)]
    assert late <= (90 if name in SLOW else 15)
    assert max(later - earlier for earlier, later in pairwise(counts)) <= 20
    assert cluster.requests.count("LIST") - lists <= 8


async def test_events_that_a_broken_proxy_swallows_are_made_good_in_time() -> None:
    """No API server does this. What it costs to survive it is a telling every half an hour."""
    async with running_pods() as (cluster, uids), Client(ClusterConfig(cluster.url, identity=cluster.url)) as client:
        followers = [asyncio.create_task(verdict(client, f"p{number}", uid)) for number, uid in enumerate(uids)]
        await asyncio.sleep(1)
        with cluster.faults.drop(verb="watch"):
            await live(cluster)
        began = asyncio.get_running_loop().time()
        codes = await asyncio.gather(*followers)
        assert codes == [exit_code(number) for number in range(PODS)]
        assert asyncio.get_running_loop().time() - began <= 2400
