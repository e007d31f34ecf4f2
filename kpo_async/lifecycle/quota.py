"""Wait for room in a quota of the namespace, instead of failing the task: other pods of it will end."""

from __future__ import annotations

import asyncio
import logging

from kpo_async.exceptions import PodStartError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.retry import Backoff
from kpo_async.lifecycle.ownership import Owner, ensure_pod
from kpo_async.pod.diagnose import is_quota_used_up

BACKOFF = Backoff(first=5.0, cap=60.0, jitter=0.5)
"""Between two creates. Many tasks may wait for the same quota, so they must not all come back at once."""

log = logging.getLogger(__name__)


async def ensure_pod_within_quota(client: Client, manifest: Json, owner: Owner, *, time_limit: float) -> Json:
    """Return what `ensure_pod` returns. A create that a quota refuses is repeated for `time_limit` seconds.

    Raises what `ensure_pod` raises, the last refusal among it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + time_limit
    failures = 0
    while True:
        try:
            return await ensure_pod(client, manifest, owner)
        except PodStartError as error:
            remaining = deadline - loop.time()
            if remaining <= 0 or not is_quota_used_up(str(error)):
                raise
            failures += 1
            log.info("Waiting for room in the quota, for %.0f s at most: %s", remaining, error)
            await asyncio.sleep(min(BACKOFF.delay(failures), remaining))
