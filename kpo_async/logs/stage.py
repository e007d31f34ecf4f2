"""How far a container has come, as its log's follower needs to know it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class Stage(IntEnum):
    """Ordered: a container's stage only ever rises."""

    WAITING = 0
    """It has not started: there is no log yet."""
    RUNNING = 1
    """There is a log, which may grow."""
    ENDED = 2
    """There is a log, which does not grow any more."""
    NEVER_RAN = 3
    """It ended without having started: there will be no log."""
    UNWANTED = 4
    """What has not been read of the log is not wanted any more."""


class ContainerStage:
    """The current stage of one container. The watcher of the pod raises it, the follower of the log waits for it."""

    def __init__(self) -> None:
        self.current = Stage.WAITING
        self._listeners: set[Callable[[], None]] = set()

    def rise_to(self, stage: Stage) -> None:
        """Set the stage, unless it is that far already."""
        if stage > self.current:
            self.current = stage
            for listener in tuple(self._listeners):
                listener()

    @contextmanager
    def on_change(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` whenever the stage rises within the block."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def reached(self, stage: Stage) -> None:
        """Wait until the container is at `stage` or beyond."""
        changed = asyncio.Event()
        with self.on_change(changed.set):
            while self.current < stage:
                changed.clear()
                await changed.wait()
