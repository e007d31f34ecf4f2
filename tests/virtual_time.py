"""An event loop whose time jumps when it is idle, so that tests of minutes take milliseconds.

Mark a test `@pytest.mark.virtual_time`: `asyncio.sleep(3600)` returns at once and `loop.time()` advances by 3600.
Real sockets and threads keep working: time does not advance while a thread of the executor is busy, inside
`time_held()`, or until no I/O has arrived for `GRACE` real seconds.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 0.02
"""Real seconds without I/O before time jumps; loopback traffic within one process takes microseconds."""
_BUSY_WAIT = 1.0


class _JumpingSelector(selectors.DefaultSelector):
    """Wait for I/O briefly, then advance `now` to the next timer instead of waiting for it."""

    now = 0.0
    holds = 0
    grace = GRACE

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.holds:
            return super().select(_BUSY_WAIT)
        events = super().select(self.grace)
        if not events:
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector event loop whose clock is its selector's."""

    def __init__(self, grace: float = GRACE) -> None:
        """`grace`: real seconds without I/O before time jumps; 0 if the loop has timers only."""
        self.clock = _JumpingSelector()
        self.clock.grace = grace
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self.clock.holds += 1
        future.add_done_callback(self._release)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        with time_held():
            await super().shutdown_default_executor(*timeout)

    def _release(self, _: object) -> None:
        self.clock.holds -= 1


@contextmanager
def time_held() -> Iterator[None]:
    """Hold time inside the block, for example while waiting for a child process, which the loop cannot see."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop), "mark the test with pytest.mark.virtual_time"
    loop.clock.holds += 1
    try:
        yield
    finally:
        loop.clock.holds -= 1


def timers_only(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test that does no I/O in virtual time that jumps at once: thousands of timers take no time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        loop = VirtualTimeLoop(grace=0)
        try:
            loop.run_until_complete(test(*args, **kwargs))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    return run
