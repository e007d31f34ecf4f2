"""The cluster of `log_flood.py`: the embedded API server with pods that write logs without running.

    python cluster.py KUBECONFIG

A pod with the annotation `flood/log: loud` writes as fast as it is read, one with `flood/log: quiet` one line a second
that says when it was written. The last line of a quiet pod is `ended at <seconds>`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from kpo_async.localcluster import LocalCluster
from kpo_async.localcluster.kubelet.kubelet import LocalKubelet
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

BLOCK_LINES = 500
LINE = "a line of a program that writes as fast as it can, with nothing to say in particular"
QUIET_INTERVAL = 1.0


class FloodKubelet(LocalKubelet):
    """Simulated pods with logs of our own."""

    async def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        simulated = self._simulator._pods.get(pod["metadata"]["uid"])
        if simulated is None or not simulated.running_since:
            raise BadLogRequest(f'container "base" in pod "{pod["metadata"]["name"]}" is waiting to start')
        write = _loud if pod["metadata"]["annotations"]["flood/log"] == "loud" else _quiet
        async for text in write(simulated.ended, follow=options.follow):
            yield text


async def _loud(ended: asyncio.Event, *, follow: bool) -> AsyncIterator[bytes]:
    while follow and not ended.is_set():
        stamp = times.to_nanos(times.now())
        yield "".join(f"{stamp} {number} {LINE}\n" for number in range(BLOCK_LINES)).encode()
        await asyncio.sleep(0)


async def _quiet(ended: asyncio.Event, *, follow: bool) -> AsyncIterator[bytes]:
    while follow and not ended.is_set():
        yield f"{times.to_nanos(times.now())} written at {time.time()}\n".encode()
        try:
            await asyncio.wait_for(ended.wait(), QUIET_INTERVAL)
        except asyncio.TimeoutError:
            continue
        yield f"{times.to_nanos(times.now())} ended at {time.time()}\n".encode()


async def main() -> None:
    def kubelet(cluster: LocalCluster) -> FloodKubelet:
        return FloodKubelet(cluster.client, cluster.directory / "kubelet")

    async with LocalCluster(kubelet=kubelet, tls=False, kubeconfig_path=Path(sys.argv[1])):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
