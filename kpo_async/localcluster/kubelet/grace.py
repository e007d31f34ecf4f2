"""The grace period of a pod that is being stopped: a deadline that can be shortened while a task waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def wait_first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when the first of them has ended, and cancel the others. Raises the exception of the first."""
    tasks = [asyncio.create_task(coroutine, name=f"wait for the first: {coroutine!r}") for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


class Grace:
    """The time that containers have to end by themselves."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._deadline = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._deadline, self._over.set)

    def shorten(self, seconds: float) -> None:
        """End it in `seconds` from now, unless it ends earlier."""
        deadline = self._loop.time() + seconds
        if deadline < self._deadline:
            self._deadline = deadline
            self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._over.set)

    def at_least(self, seconds: float) -> Grace:
        """Return a grace period that ends with this one, but not before `seconds` have passed."""
        return Grace(max(self._deadline - self._loop.time(), seconds))

    async def wait_for(self, event: asyncio.Event) -> bool:
        """Wait for an event; return False if the grace period ends first."""
        if not event.is_set() and not self._over.is_set():
            await wait_first(event.wait(), self._over.wait())
        return event.is_set()

    def cancel(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()
