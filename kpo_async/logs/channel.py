"""The socket by which a triggerer's records travel to its supervisor, which writes them to the tasks' log files.

The supervisor reads 4 KiB of it at a turn of its loop, and closes a task's file as soon as it hears, by another way,
that the trigger has ended: what is in the socket then misses the file (apache/airflow#66158). And a process that writes
into the full socket stands still, with all of its triggers. So it is worth knowing how much is in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import stat
import struct
import termios

LOOK = 0.02
"""Seconds between two looks: nobody tells when something has been read."""
PATIENCE = 30.0
"""Seconds after which a supervisor that reads no more is not waited for."""


def unread() -> int:
    """What of this process's log records has not been read yet, in the kernel's bytes. 0 where they need no reader."""
    for handler in logging.getLogger().handlers:
        descriptor = _descriptor(handler)
        if descriptor is not None:
            return _unread(descriptor)
    return 0


async def delivered() -> None:
    """Wait until all that has been logged so far has been read, whatever others log meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    awaited = last = unread()
    while awaited > 0 and last > 0 and loop.time() < deadline:
        await asyncio.sleep(LOOK)
        now = unread()
        # It is read in the order in which it was written: what has gone by now was there before.
        awaited -= max(0, last - now)
        last = now


def _descriptor(handler: logging.Handler) -> int | None:
    """The socket that a handler writes to, if it writes to one."""
    try:
        descriptor: int = handler.stream.fileno()  # type: ignore[attr-defined]
        return descriptor if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
    except (AttributeError, OSError, ValueError):  # no stream, one without a descriptor, a closed one
        return None


def _unread(descriptor: int) -> int:
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4)
    except OSError:  # only Linux tells for such sockets
        return 0
    size: int = struct.unpack("i", answer)[0]
    return size
