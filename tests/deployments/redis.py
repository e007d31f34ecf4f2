"""Start a Redis server, the broker of the CeleryExecutor: Debian's program on a free loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from kpo_async.compat import timeout
from kpo_async.demo.airflow import free_ports
from kpo_async.demo.processes import Program, ProgramError

START_TIMEOUT = 30.0
STOP_GRACE = 10.0


def program() -> str:
    """Return the path of the program. Raise `ProgramError` when Redis is not installed."""
    found = shutil.which("redis-server")
    if found is None:
        raise ProgramError("Redis is not installed; on Debian: apt-get install redis-server")
    return found


@contextlib.asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """Run a server that keeps nothing; yield the URL of a Celery broker. Raise `ProgramError` if it does not start."""
    (port,) = free_ports(1)
    command = [program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = await Program.start("redis", command, os.environ, folder / "redis.log")
    try:
        async with timeout(START_TIMEOUT):
            while not await _accepts_connections(port):
                server.check()
                await asyncio.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        await asyncio.shield(server.stop(STOP_GRACE))


async def _accepts_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
