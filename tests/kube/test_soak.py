"""50 pods a second come and go under faults, for an hour: nothing grows, nothing is left, every exit code is right.

`make soak`; `SOAK_SECONDS` shortens it. The embedded API server, the pods' lives and their subscribers share one
process, so that a leak in any of them is noticed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from kpo_async.compat import timeout
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from tests.kube.faulty_cluster import FAULT_SECONDS, FAULTS, WHEN, end, exit_code, pod, serving, verdict

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
WARM_UP = min(600.0, SECONDS / 3)
"""Seconds after which memory may drift no more than `DRIFT`."""
DRIFT = 10 * 2**20
RATE = 50
"""Pods a second."""
LIFE = 5.0
"""Seconds from a pod's creation to its end, on average."""
KEPT = 100.0
"""Seconds that an ended pod stays: longer than any subscriber needs after a fault."""
QUIET = 20.0
"""Seconds between two faults."""


def resident() -> int:
    """Bytes of memory in use, as the kernel counts them."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Churn:
    """Pods that come, end and go, each with a subscriber."""

    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client
        self.outcomes: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        for number in itertools.count():
            self.tasks.add(task := asyncio.create_task(self.life(number)))
            task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(1 / RATE)

    async def life(self, number: int) -> None:
        store, name = self.cluster.store, f"p{number}"
        uid = store.create("pods", pod(number))["metadata"]["uid"]
        following = asyncio.create_task(verdict(self.client, name, uid))
        await asyncio.sleep(random.uniform(0, 2 * LIFE))
        end(self.cluster, number)
        async with timeout(KEPT):
            code = await following
        self.outcomes["right" if code == exit_code(number) else f"{name}: {code}"] += 1
        current = store.get("pods", "default", name)
        store.update("pods", {**current, "metadata": {**current["metadata"], "deletionTimestamp": WHEN}})
        store.remove("pods", "default", name)


async def rain(cluster: LocalCluster) -> None:
    """One fault after the other, in random order."""
    while True:
        for name in random.sample(list(FAULTS), len(FAULTS)):
            await asyncio.sleep(QUIET)
            async with FAULTS[name](cluster):
                await asyncio.sleep(FAULT_SECONDS)


@pytest.mark.soak
async def test_an_hour_of_churn_and_faults_leaves_nothing_behind() -> None:
    async with serving() as (cluster, client):
        files, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
        churn = Churn(cluster, client)
        churning, raining = asyncio.create_task(churn.run()), asyncio.create_task(rain(cluster))
        await asyncio.sleep(WARM_UP)
        warm = resident()
        await asyncio.sleep(SECONDS - WARM_UP)
        raining.cancel()
        cluster.faults.clear()
        await asyncio.sleep(FAULT_SECONDS)
        drift = resident() - warm
        churning.cancel()
        await asyncio.gather(*churn.tasks)
        await asyncio.sleep(10)  # the informer lingers
        left = len(os.listdir("/proc/self/fd")) - files, len(asyncio.all_tasks()) - tasks
    print(f"{churn.outcomes['right']} pods, memory {drift / 2**20:+.1f} MiB in {SECONDS - WARM_UP:.0f} s, left: {left}")
    assert set(churn.outcomes) == {"right"}
    assert drift <= DRIFT
    assert max(left) <= 2
