"""An event loop that a signal handler can interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from kpo_async.compat import Runner, Self
from kpo_async.hooks.sync import run_sync

T = TypeVar("T")


class KillableRun:
    """Runs coroutines to completion in one event loop, one after the other. `kill` cancels from a signal handler.

    A context manager: at its end it closes the loop, and with it the clients that were opened there.
    """

    def __init__(self) -> None:
        self._runner = Runner()
        self._task: asyncio.Task[Any] | None = None
        self._killed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of `coroutine`. Raises `CancelledError` if the run is killed, before or meanwhile."""
        if self._task is not None:
            # A user's callback, which the running coroutine waits for, needs a loop for itself.
            return run_sync(coroutine)
        if self._killed:
            coroutine.close()
            raise asyncio.CancelledError
        result = self._runner.run(self._run(coroutine))
        if self._killed:  # after its last await
            raise asyncio.CancelledError
        return result

    def clean_up(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run `coroutine` after a kill, which does not interrupt it, or after an exception."""
        self._killed = True
        if self._task is not None:  # An alarm's exception has left it in the middle.
            self._task.cancel()
            self._task = None
        self._runner.run(coroutine)

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        try:
            return await coroutine
        finally:
            self._task = None

    def kill(self) -> None:
        """Cancel the running coroutine and refuse the next. Further calls do not interrupt its cleanup."""
        task, killed_before, self._killed = self._task, self._killed, True
        if task is not None and not killed_before:
            with suppress(RuntimeError):  # In another thread, the loop has just been closed.
                task.get_loop().call_soon_threadsafe(task.cancel)
