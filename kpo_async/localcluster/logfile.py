"""The log of one container instance: a pipe that is read into a file, and the file's readers.

The file holds what `kubectl logs --timestamps` prints: every line begins with its nanosecond timestamp, and each
timestamp is later than the one before it. Like containerd, an unfinished line is written once it has 16 KiB, and at the
end of the output. Reading with timestamps is copying; without them they are cut off again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from kpo_async.localcluster import times
from kpo_async.localcluster.node import LogOptions

PARTIAL_LINE = 16 * 1024
"""Bytes of an unfinished line that are not held back any longer (containerd's max_container_log_line_size)."""

_STAMP = len("2026-01-02T03:04:05.000000006Z ")
_BLOCK = 64 * 1024


class LogFile:
    """A container instance's log. `open_pipe` gives the writing end for its process."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = 0
        self.closed = False
        """Nothing more will be written."""
        self._clock = clock
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._pipe = -1
        self._last = 0
        self._pending = b""
        self._in_line = False
        self._readers: list[asyncio.Future[None]] = []

    def open_pipe(self) -> int:
        """A pipe whose end is returned: what is written there is logged."""
        self._pipe, writing = os.pipe()
        os.set_blocking(self._pipe, False)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)
        return writing

    def _read(self) -> bool:
        """Log what the pipe holds, a bounded piece at a time; False when there is nothing now."""
        try:
            data = os.read(self._pipe, _BLOCK)
        except BlockingIOError:
            return False
        if not data:
            self._stop_reading()
            return False
        self.write(data)
        return True

    def _stop_reading(self) -> None:
        if self._pipe >= 0:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def write(self, data: bytes) -> None:
        """Log bytes as a container would write them."""
        pending = self._pending + data
        complete, newline, rest = pending.rpartition(b"\n")
        output = bytearray()
        if newline:
            for line in complete.split(b"\n"):
                self._stamp(output)
                output += line
                output += b"\n"
                self._in_line = False
        if len(rest) >= PARTIAL_LINE:
            self._stamp(output)
            output += rest
            self._in_line, rest = True, b""
        self._pending = rest
        self._append(output)

    def _stamp(self, output: bytearray) -> None:
        if not self._in_line:
            self._last = max(self._clock(), self._last + 1)
            output += times.to_nanos(self._last).encode()
            output += b" "

    def _append(self, output: bytearray) -> None:
        if output:
            os.write(self._file, output)
            self.size += len(output)
            self._wake()

    def close(self) -> None:
        """Log what is left in the pipe, and end the readers that follow."""
        if self.closed:
            return
        while self._pipe >= 0 and self._read():
            pass
        self._stop_reading()
        if self._pending:
            output = bytearray()
            self._stamp(output)
            self._append(output + self._pending)
            self._pending = b""
        os.close(self._file)
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        for reader in self._readers:
            if not reader.done():
                reader.set_result(None)
        self._readers.clear()

    async def grown(self, size: int) -> bool:
        """Wait until there are more than `size` bytes; False if there never will be."""
        while self.size <= size:
            if self.closed:
                return False
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader
        return True

    def tail(self, lines: int, limit: int) -> str:
        """The text of the last lines, at most `limit` bytes of it."""
        with self.path.open("rb") as file:
            file.seek(find_tail(file.fileno(), self.size, lines))
            text = Unstamp().strip(file.read())
        return text[-limit:].decode(errors="replace")

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """The log according to `options`; following it ends with the container."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = self._begin(descriptor, options)
            unstamp = Unstamp()
            left = options.limit_bytes
            while left is None or left > 0:
                block = os.pread(descriptor, _BLOCK, offset)
                if not block:
                    if options.follow and await self.grown(offset):
                        continue
                    return
                offset += len(block)
                text = block if options.timestamps else unstamp.strip(block)
                if left is not None:
                    text = text[:left]
                    left -= len(text)
                yield text
        finally:
            os.close(descriptor)

    def _begin(self, descriptor: int, options: LogOptions) -> int:
        """Where to start reading: the later of what `sinceTime` and `tailLines` ask for."""
        since = options.since_time
        if options.since_seconds is not None:
            since = self._clock() - options.since_seconds * times.SECOND
        offset = 0 if since is None else find_time(descriptor, self.size, since)
        if options.tail_lines is not None:
            offset = max(offset, find_tail(descriptor, self.size, options.tail_lines))
        return offset

    def remove(self) -> None:
        """Close it and delete the file; who reads it now can read on."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class Unstamp:
    """Cuts the timestamps off a log that comes in blocks which end anywhere."""

    def __init__(self) -> None:
        self._skip = _STAMP
        """Bytes of a timestamp that are still to come."""

    def strip(self, block: bytes) -> bytes:
        pieces = []
        position = 0
        while position < len(block):
            skipped = min(self._skip, len(block) - position)
            position += skipped
            self._skip -= skipped
            if self._skip:
                break
            end = block.find(b"\n", position) + 1
            pieces.append(block[position : end or None])
            if not end:
                break
            position, self._skip = end, _STAMP
        return b"".join(pieces)


def find_tail(descriptor: int, size: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin."""
    if lines <= 0:
        return size
    position, wanted = size, lines
    if size and os.pread(descriptor, 1, size - 1) == b"\n":
        wanted += 1
    while position > 0:
        start = max(0, position - _BLOCK)
        block = os.pread(descriptor, position - start, start)
        end = len(block)
        while (found := block.rfind(b"\n", 0, end)) >= 0:
            wanted -= 1
            if wanted == 0:
                return start + found + 1
            end = found
        position = start
    return 0


def find_time(descriptor: int, size: int, since: int) -> int:
    """Where the first line at or after an instant begins: a binary search, because the lines are in order of time."""
    wanted = times.to_nanos(since).encode()
    low, high = 0, size  # the wanted offset is a line's beginning in [low, high]
    while low < high:
        middle = (low + high) // 2
        start = line_start(descriptor, middle)
        if os.pread(descriptor, len(wanted), start) >= wanted:
            high = start
        else:
            low = line_end(descriptor, middle, size)
    return low


def line_start(descriptor: int, position: int) -> int:
    """The beginning of the line that the byte at `position` belongs to."""
    while position > 0:
        start = max(0, position - 4096)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def line_end(descriptor: int, position: int, size: int) -> int:
    """The beginning of the next line."""
    while position < size:
        block = os.pread(descriptor, 4096, position)
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return size
