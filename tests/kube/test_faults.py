"""200 running pods under one fault each time: every exit code is right, in time, and takes few requests.

Against the embedded API server, without a kubelet: the test writes the status in its place. Time is virtual.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from kpo_async.localcluster.cluster import LocalCluster
from tests.kube.faulty_cluster import FAULT_SECONDS, FAULTS, SLOW, end, exit_code, pod, serving, verdict

pytestmark = pytest.mark.virtual_time

PODS = 200
BEGIN = 5.0
"""Seconds from the start of the lives to the fault."""
LIVES = 18.0
"""Seconds over which the pods end."""


async def count(cluster: LocalCluster, counts: list[int]) -> None:
    """Record the number of requests, every second."""
    while True:
        counts.append(cluster.requests.count())
        await asyncio.sleep(1)


@asynccontextmanager
async def subscribed_pods() -> AsyncIterator[tuple[LocalCluster, list[asyncio.Task[int]]]]:
    """A cluster with running pods, and a subscriber for each."""
    async with serving() as (cluster, client):
        uids = [cluster.store.create("pods", pod(number))["metadata"]["uid"] for number in range(PODS)]
        subscribers = [asyncio.create_task(verdict(client, f"p{number}", uid)) for number, uid in enumerate(uids)]
        yield cluster, subscribers


async def live(cluster: LocalCluster) -> None:
    """All pods end, a few at a time."""
    for number in range(PODS):
        if number % 5 == 0:
            await asyncio.sleep(LIVES / PODS * 5)
        end(cluster, number)


@pytest.mark.parametrize("name", FAULTS)
async def test_every_verdict_is_right_and_in_time(name: str) -> None:
    async with subscribed_pods() as (cluster, subscribers):
        clock = asyncio.get_running_loop().time
        counts: list[int] = []
        counting = asyncio.create_task(count(cluster, counts))
        living = asyncio.create_task(live(cluster))
        await asyncio.sleep(BEGIN)
        lists = cluster.requests.count("LIST")
        fault_began = clock()
        async with FAULTS[name](cluster):
            await asyncio.sleep(max(0.0, FAULT_SECONDS - (clock() - fault_began)))
        over = clock()
        await living
        codes = await asyncio.gather(*subscribers)
        late = clock() - over
        counting.cancel()
    assert codes == [exit_code(number) for number in range(PODS)]
    assert late <= (90 if name in SLOW else 15)
    assert max(later - earlier for earlier, later in pairwise(counts)) <= 20
    assert cluster.requests.count("LIST") - lists <= 8


async def test_events_lost_in_a_broken_proxy_are_made_up_for_by_a_relist() -> None:
    """No API server loses events. Surviving it costs a relist every half an hour."""
    async with subscribed_pods() as (cluster, subscribers):
        await asyncio.sleep(1)
        with cluster.faults.drop(verb="watch"):
            await live(cluster)
        began = asyncio.get_running_loop().time()
        codes = await asyncio.gather(*subscribers)
        assert codes == [exit_code(number) for number in range(PODS)]
        assert asyncio.get_running_loop().time() - began <= 2400
