"""The socket by which a triggerer's log records reach its supervisor, which writes them to the tasks' log files.

The supervisor reads 4 KiB of it per turn of its loop, and closes a task's file as soon as it learns, by another way,
that the trigger has ended: what is still in the socket then misses the file (apache/airflow#66158). A process that
writes into the full socket blocks, with all its triggers. Hence the need to know how much is in it.
"""

from __future__ import annotations

import asyncio
import contextvars
import fcntl
import logging
import os
import stat
import struct
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from kpo_async.kube.shared import PerLoop

POLL_INTERVAL = 0.01
"""Seconds between two looks at the socket: the kernel does not notify when something was read."""
READ_TIMEOUT = 30.0
"""Seconds after which a supervisor that does not read any more is not waited for."""
FULL_BYTES = 128 * 1024
"""What may be unread when a task logs a few records. The socket takes 208 KiB by the kernel's count."""
_written = 0
"""What `counting_written_bytes` has counted, by the kernel's count. Grows only."""


def unread_bytes() -> int:
    """How much of this process's log records has not been read yet, by the kernel's count.

    0 if the records do not go into a socket, or if the kernel does not say (only Linux does).
    """
    for handler in logging.getLogger().handlers:
        descriptor = _socket_of(handler)
        if descriptor is not None:
            return _unread(descriptor)
    return 0


@contextmanager
def counting_written_bytes() -> Iterator[None]:
    """Count what the block writes, so that `wait_until_read` can tell how much is read meanwhile."""
    global _written
    before = unread_bytes()
    try:
        yield
    finally:
        _written += max(0, unread_bytes() - before)


async def wait_for_room() -> None:
    """Wait until a few records can be logged without blocking the event loop. Gives up silently."""
    if unread_bytes() > FULL_BYTES:
        await wait_until_read()


async def wait_until_read() -> None:
    """Wait until all records logged so far have been read, whatever is logged meanwhile. Gives up silently."""
    await _READINGS.get().wait()


class _Reading:
    """How far the supervisor has read, for all tasks of one event loop that wait for it: they look together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = self._unread = self._counted = 0
        self._waiting: deque[tuple[int, float, asyncio.Future[None]]] = deque()
        """How far each waits for it to be read, and when it gives up; in the order in which they came."""
        self._next_look: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        if unread := self._look():
            read = self._loop.create_future()
            self._waiting.append((self._read + unread, self._loop.time() + READ_TIMEOUT, read))
            self._schedule()
            await read

    def _look(self) -> int:
        """Return how many bytes are unread."""
        before, self._unread = self._unread, unread_bytes()
        # Records are read in the order in which they were written: what was read by now was there before.
        self._read += max(0, before + (_written - self._counted) - self._unread)
        self._counted = _written
        return self._unread

    def _schedule(self) -> None:
        if self._next_look is None and self._waiting:
            # In an empty context: the timer must not keep a task's variables alive.
            self._next_look = self._loop.call_later(POLL_INTERVAL, self._wake, context=contextvars.Context())

    def _wake(self) -> None:
        self._next_look = None
        unread, now = self._look(), self._loop.time()
        while self._waiting:
            awaited, given_up_at, read = self._waiting[0]
            if unread and self._read < awaited and now < given_up_at and not read.done():
                break
            self._waiting.popleft()
            if not read.done():  # otherwise its task was cancelled
                read.set_result(None)
        self._schedule()


_READINGS: PerLoop[_Reading] = PerLoop(_Reading)


def _socket_of(handler: logging.Handler) -> int | None:
    """The descriptor of the socket that a handler writes to, if it writes to one."""
    try:
        descriptor: int = handler.stream.fileno()  # type: ignore[attr-defined]
        return descriptor if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
    except (AttributeError, OSError, ValueError):  # no stream, one without a descriptor, a closed one
        return None


def _unread(descriptor: int) -> int:
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4)
    except OSError:  # not Linux
        return 0
    size: int = struct.unpack("i", answer)[0]
    return size
