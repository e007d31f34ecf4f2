"""What pods really did, from a watch of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from kpo_async.api_types import Pod
from kpo_async.demo.cluster import Cluster
from kpo_async.kube.watch import Apply, Delete, InitApply, Watcher

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


class Witness:
    """The pods of a cluster's namespace, by uid."""

    def __init__(self) -> None:
        self.pods: dict[str, Seen] = {}

    @contextlib.asynccontextmanager
    async def watching(self, cluster: Cluster) -> AsyncIterator[None]:
        """Keep watching within the block."""
        watch = asyncio.create_task(self._watch(cluster), name="witness")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

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
        async with contextlib.aclosing(Watcher(cluster.client, cluster.namespace).events()) as events:
            async for event in events:
                if isinstance(event, InitApply | Apply | Delete):
                    self._note(event.pod, gone=isinstance(event, Delete))

    def _note(self, pod: Pod, *, gone: bool) -> None:
        seen = self.pods.setdefault(pod.metadata.uid, Seen(pod.metadata.name))
        owner = (pod.metadata.annotations or {}).get(OWNER)
        if owner and owner not in seen.owners:
            seen.owners.append(owner)
        for container in pod.status.container_statuses or ():
            if container.name == "base" and container.state and container.state.terminated:
                seen.exit_code = container.state.terminated.exit_code
        seen.running = seen.exit_code is None and pod.status.phase == "Running" and not gone
