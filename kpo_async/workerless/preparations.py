"""What starts still need of Airflow before their pods can be created comes before what can wait.

A triggerer's supervisor answers one request after the other, in 10 to 20 ms each. When hundreds of tasks start at once,
the XComs with the names of the first pods would delay the creation of the last ones by seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from kpo_async.compat import timeout

PATIENCE = 30.0
"""Seconds that a pod's names wait for other tasks' starts: there may always be another one."""


class Preparations:
    """The starts of one event loop that have no manifest yet. Each enters and leaves it as a context manager."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self._turn = asyncio.Lock()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    @asynccontextmanager
    async def after(self) -> AsyncIterator[None]:
        """Run the block once there are none, after no longer than `PATIENCE`, and one such block at a time.

        So a request of another kind waits for one of these, not for hundreds.
        """
        with suppress(asyncio.TimeoutError):
            async with timeout(PATIENCE):
                await self._none.wait()
        async with self._turn:
            yield
