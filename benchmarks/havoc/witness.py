"""What pods really did, from a watch of its own, which is compared with plain LISTs: it is this library's, too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.demo.cluster import Cluster
from kpo_async.exceptions import ApiError
from kpo_async.json_types import Json
from kpo_async.kube.retry import RECONNECT_CAP
from kpo_async.kube.watch import Delete, Init, InitApply, InitDone, Watcher

COMPARE_EVERY = 10.0
WATCH_LAG = 4 * RECONNECT_CAP
"""Seconds by which the watch may be late: while API servers are killed, several attempts in a row fail."""
OWNER = "kpo-async/owner"
"""Annotation of a pod: the task instance's id, which is another one for each try, and the try's number."""


@dataclass
class Seen:
    """One pod. `owners`: the tries it belonged to, each `<id of the task instance>/<number>`, the last one now."""

    name: str
    owners: list[str] = field(default_factory=list)
    running: bool = False
    exit_code: int | None = None
    disrupted: bool = False
    """Whether the chaos deleted or evicted it."""
    gone: bool = False


class Witness:
    """The pods of a cluster's namespace, by uid."""

    def __init__(self) -> None:
        self.pods: dict[str, Seen] = {}
        self.differences: list[str] = []
        """Where the watch showed something else than a LIST, even some time after it."""
        self.lists = 0

    @contextlib.asynccontextmanager
    async def watching(self, cluster: Cluster) -> AsyncIterator[None]:
        """Keep watching within the block."""
        tasks = [asyncio.create_task(work(cluster), name="witness") for work in (self._watch, self._compare)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def of_try(self, task_instance_id: str) -> list[Seen]:
        """Return the pods that belonged to one try, and to no later one."""
        return [seen for seen in self.pods.values() if seen.owners and seen.owners[-1].startswith(task_instance_id)]

    def made_twice(self) -> dict[str, list[str]]:
        """Return the tries with more than one pod, not counting those that the chaos ended: owner -> names."""
        names: dict[str, list[str]] = {}
        for seen in (seen for seen in self.pods.values() if not seen.disrupted):
            for owner in seen.owners:
                names.setdefault(owner, []).append(seen.name)
        return {owner: pods for owner, pods in names.items() if len(pods) > 1}

    async def _watch(self, cluster: Cluster) -> None:
        synced: set[str] = set()
        async with contextlib.aclosing(Watcher(cluster.client, cluster.namespace).events()) as events:
            async for event in events:
                if isinstance(event, Init):
                    synced = set()
                elif isinstance(event, InitDone):
                    self._keep_only(synced)
                else:
                    self._note(event.pod, gone=isinstance(event, Delete))
                    if isinstance(event, InitApply):
                        synced.add(event.pod.metadata.uid)

    async def _compare(self, cluster: Cluster) -> None:
        """Compare the picture of the watch with a LIST, again and again."""
        while True:
            await asyncio.sleep(COMPARE_EVERY)
            with contextlib.suppress(ApiError):
                listed = (await cluster.client.list("pods", cluster.namespace))["items"]
                alive = {uid for uid, seen in self.pods.items() if not seen.gone}
                # The watch may be cut at this moment.
                await asyncio.sleep(WATCH_LAG)
                self.lists += 1
                self.differences += self._differences(listed, alive)

    def _differences(self, listed: list[Json], alive: set[str]) -> list[str]:
        """Return where the picture lags behind a LIST, before which the pods `alive` were there.

        Of a pod that is gone since, the picture may lack the end: no watch was open.
        """
        found = {pod["metadata"]["uid"]: pod for pod in listed}
        differences = [f"{self.pods[uid].name} is gone" for uid in alive - set(found) if not self.pods[uid].gone]
        for uid, pod in found.items():
            code = _exit_code(pod_from_dict(pod))
            if uid not in self.pods:
                differences.append(f"{pod['metadata']['name']} is there")
            elif code is not None and self.pods[uid].exit_code != code and not self.pods[uid].gone:
                differences.append(f"{pod['metadata']['name']} has exited with {code}, not {self.pods[uid].exit_code}")
        return differences

    def _keep_only(self, uids: set[str]) -> None:
        """Note that all pods but these have been deleted while no watch was open."""
        for uid in set(self.pods) - uids:
            self.pods[uid].gone, self.pods[uid].running = True, False

    def _note(self, pod: Pod, *, gone: bool) -> None:
        seen = self.pods.setdefault(pod.metadata.uid, Seen(pod.metadata.name))
        owner = (pod.metadata.annotations or {}).get(OWNER)
        if owner and owner not in seen.owners:
            seen.owners.append(owner)
        seen.gone = gone
        if (code := _exit_code(pod)) is not None:
            seen.exit_code = code
        seen.running = seen.exit_code is None and pod.status.phase == "Running" and not gone


def _exit_code(pod: Pod) -> int | None:
    """Return the exit code of the base container, None while it has none."""
    for container in pod.status.container_statuses or ():
        if container.name == "base" and container.state and container.state.terminated:
            return container.state.terminated.exit_code
    return None
