"""The measured process of `log_flood.py`: triggers in one event loop that log as in Airflow's triggerer.

    python triggerer.py SOCKET < orders.json

Runs one `KubernetesPodTrigger` per row of the orders. Its records go through Airflow's renderer into the socket, each
with its trigger's id. Prints a line of JSON for each event, and every second one with its memory and the longest stall
of its loop since the last. The rows have the form of version 0.1, so that any later version can be measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

REPORT = 1.0
TICK = 0.01


def memory() -> int:
    """Bytes of resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise LookupError("VmRSS")


def report(**values: object) -> None:
    print(json.dumps(values), flush=True)


async def run(number: int, row: dict[str, object]) -> None:
    from structlog.contextvars import bind_contextvars

    from kpo_async.triggers.pod import KubernetesPodTrigger

    bind_contextvars(trigger_id=number + 1)
    async for _ in KubernetesPodTrigger(row).run():
        report(event=number, at=time.time())


async def watch_loop() -> None:
    loop = asyncio.get_running_loop()
    longest, reported = 0.0, loop.time()
    while True:
        before = loop.time()
        await asyncio.sleep(TICK)
        longest = max(longest, loop.time() - before - TICK)
        if loop.time() - reported >= REPORT:
            report(memory=memory(), stall=longest, at=time.time())
            longest, reported = 0.0, loop.time()


async def main(rows: list[dict[str, object]]) -> None:
    watching = asyncio.create_task(watch_loop())
    await asyncio.gather(*(asyncio.create_task(run(number, row)) for number, row in enumerate(rows)))
    watching.cancel()


if __name__ == "__main__":
    from airflow.sdk.log import configure_logging, reset_logging

    reset_logging()
    log_file = os.fdopen(int(sys.argv[1]), "wb", buffering=0)
    configure_logging(json_output=True, output=log_file, sending_to_supervisor=True)
    asyncio.run(main(json.load(sys.stdin)))
