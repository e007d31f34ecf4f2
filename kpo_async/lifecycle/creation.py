"""Creates whose answer is not lost: one that its caller gives up may arrive all the same.

Who then looks for the pod, to end it, first waits for the creates of its owner that are under way.
"""

from __future__ import annotations

import asyncio
import logging

from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.shared import PerLoop
from kpo_async.lifecycle.disposal import owner_id
from kpo_async.metrics import PODS_CREATED, count

log = logging.getLogger(__name__)

ALREADY_EXISTS = "AlreadyExists"
"""The reason of the conflict that a create has with a pod of the same name."""
GRACE = 3.0
"""Seconds to wait for the answer. A worker that gets SIGTERM is killed after five."""

_UNDER_WAY: PerLoop[dict[asyncio.Task[Json], str | None]] = PerLoop(dict)
"""Create requests, and whose pods they make."""


async def create(client: Client, manifest: Json) -> Json:
    """Create a pod that is marked as its owner's, in a task of its own. Raises `ApiError`."""
    metadata, under_way = manifest["metadata"], _UNDER_WAY.get()
    creation = asyncio.create_task(
        _create(client, manifest, metadata["namespace"]), name=f"create pod {metadata['name']}"
    )
    under_way[creation] = owner_id(manifest)
    creation.add_done_callback(under_way.pop)
    return await asyncio.shield(creation)


async def _create(client: Client, manifest: Json, namespace: str) -> Json:
    pod = await client.create("pods", manifest, namespace)
    count(PODS_CREATED, client.config.host, namespace)
    log.info("Created pod %s/%s", namespace, pod["metadata"]["name"])
    return pod


async def creations_answered(owner: str) -> None:
    """Wait for the owner's creates that are under way, and cancel those that are not answered within `GRACE`."""
    under_way = [creation for creation, whose in _UNDER_WAY.get().items() if whose == owner]
    if under_way:
        _, late = await asyncio.wait(under_way, timeout=GRACE)
        for creation in late:
            creation.cancel()
