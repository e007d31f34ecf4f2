"""A deadline that may be moved while somebody waits for it: the grace of a pod that is being stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when one of them has ended, cancelling the others. Its exception is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Grace:
    """How long containers may take to end by themselves."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._deadline = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._deadline, self._over.set)

    def shorten(self, seconds: float) -> None:
        """To at most so many seconds from now."""
        deadline = self._loop.time() + seconds
        if deadline < self._deadline:
            self._deadline = deadline
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._over.set)

    def at_least(self, seconds: float) -> Grace:
        """A grace that ends with this one, but not before so many seconds have passed."""
        return Grace(max(self._deadline - self._loop.time(), seconds))

    async def wait_for(self, event: asyncio.Event) -> bool:
        """True once the event is set, False when the grace is over before that."""
        if not event.is_set() and not self._over.is_set():
            await first(event.wait(), self._over.wait())
        return event.is_set()

    def end(self) -> None:
        """Nobody waits any more."""
        self._timer.cancel()
