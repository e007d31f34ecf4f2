"""An embedded cluster whose API server misbehaves: `python -m kpo_async.demo.chaos KUBECONFIG`.

Every few seconds it injects a fault that real API servers have, and prints it as a line. The pods run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from kpo_async.demo.cluster import FAULT_PREFIX
from kpo_async.localcluster.api.fault_kinds import Fault
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.cluster import LocalCluster

PAUSE = (2.0, 5.0)
"""Shortest and longest pause between two faults, in seconds."""
SEED = 7


async def _restart(faults: Faults) -> None:
    await faults.restart(down=2.0)


async def _forgetful_restart(faults: Faults) -> None:
    await faults.restart(keep_history=False)


async def _cut(faults: Faults) -> None:
    faults.cut_connections()


async def _expire(faults: Faults) -> None:
    faults.expire_watches()


def _during(seconds: float, fault: Callable[[Faults], Fault]) -> Callable[[Faults], Awaitable[None]]:
    async def inject(faults: Faults) -> None:
        with fault(faults):
            await asyncio.sleep(seconds)

    return inject


FAULTS: dict[str, Callable[[Faults], Awaitable[None]]] = {
    "every connection is cut": _cut,
    "the watch gets 410 Gone": _expire,
    "the API server restarts, 2 s": _restart,
    "the API server restarts without its history": _forgetful_restart,
    "429 Too Many Requests, 2 s": _during(2, lambda faults: faults.throttle(resource="pods")),
    "503 Service Unavailable, 2 s": _during(2, lambda faults: faults.fail(503, resource="pods")),
    "the connections hang half-open, 3 s": _during(3, lambda faults: faults.half_open(reset=True, resource="pods")),
    "every response takes 1 s longer, 3 s": _during(3, lambda faults: faults.delay(1, resource="pods")),
    "streams come in pieces of one byte, 3 s": _during(3, lambda faults: faults.fragment(resource="pods")),
    "the watch delivers events twice, 3 s": _during(3, lambda faults: faults.duplicate(verb="watch")),
}


async def inject_faults(faults: Faults) -> None:
    """Inject one fault after another until cancelled; print each one's name before it starts."""
    chance = random.Random(SEED)
    while True:
        await asyncio.sleep(chance.uniform(*PAUSE))
        name = chance.choice(list(FAULTS))
        print(FAULT_PREFIX + name, flush=True)
        await FAULTS[name](faults)


async def _serve(kubeconfig: Path) -> None:
    """Run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    async with LocalCluster(kubeconfig_path=kubeconfig) as cluster:
        injecting = asyncio.create_task(inject_faults(cluster.faults), name="inject faults")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, injecting.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await injecting


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
