"""The log of one container instance: a pipe that is read into a file, and the file's readers.

The file has containerd's entries, one to a line: `<nanosecond timestamp> F <text>` for a line or its last part, and
`<timestamp> P <text>` for a part that another follows: lines are cut every 16 KiB, and an unfinished one at the end of
the output. Each timestamp is later than the one before it. As with a real kubelet, readers get parts joined under the
first one's timestamp, and `tailLines` and `sinceTime` count parts: they may begin in the middle of a long line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from kpo_async.localcluster.node import LogOptions
from kpo_async.localcluster.store import times

PART = 16 * 1024
"""Bytes of a line's part (containerd's max_container_log_line_size)."""

_STAMP = len("2026-01-02T03:04:05.000000006Z ")
_TEXT = _STAMP + len("F ")
_BLOCK = 64 * 1024
_READ = 16 * 1024
"""Bytes taken from a pipe at a time: thousands of short lines, and some milliseconds of work."""
_PIPE_READS = 1 + 64 * 1024 // _READ
"""Reads that empty a pipe to which nobody writes any more."""
_FULL_ENTRY = re.compile(rb"^(.{%d})F " % _STAMP, re.MULTILINE)
_PARTIAL_ENTRY = re.compile(rb"^.{%d}P " % _STAMP, re.MULTILINE)


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
        self._now = 0
        self._last = 0
        self._second = -1
        self._prefix = b""
        self._pending = b""
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
            data = os.read(self._pipe, _READ)
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
        self._now = self._clock()
        *lines, rest = (self._pending + data).split(b"\n")
        entries = bytearray()
        for line in lines:
            self._add(entries, b"F", self._cut(entries, line))
        self._pending = self._cut(entries, rest)
        self._append(entries)

    def _cut(self, entries: bytearray, line: bytes) -> bytes:
        """Log the parts of a line that another part follows, and return its last part."""
        start = 0
        while len(line) - start > PART:
            self._add(entries, b"P", line[start : start + PART])
            start += PART
        return line[start:]

    def _add(self, entries: bytearray, tag: bytes, text: bytes) -> None:
        self._last = max(self._now, self._last + 1)
        second, nanoseconds = divmod(self._last, times.SECOND)
        if second != self._second:
            self._second = second
            self._prefix = times.to_seconds(self._last)[:-1].encode()
        entries += b"%s.%09dZ %s %s\n" % (self._prefix, nanoseconds, tag, text)

    def _append(self, entries: bytearray) -> None:
        if entries:
            os.write(self._file, entries)
            self.size += len(entries)
            self._wake()

    def close(self) -> None:
        """Log what is left in the pipe, and end the readers that follow."""
        if self.closed:
            return
        for _ in range(_PIPE_READS):  # bounded, because a process that has left its container may still write
            if self._pipe < 0 or not self._read():
                break
        self._stop_reading()
        if self._pending:
            entries = bytearray()
            self._add(entries, b"P", self._pending)
            self._append(entries)
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
            text = Decoder(timestamps=False).decode(file.read())
        return text[-limit:].decode(errors="replace")

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """The log according to `options`; following it ends with the container."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = self._begin(descriptor, options)
            decoder = Decoder(timestamps=options.timestamps)
            left = options.limit_bytes
            while left is None or left > 0:
                block = os.pread(descriptor, _BLOCK, offset)
                block = block[: block.rfind(b"\n") + 1]
                if not block:
                    if options.follow and await self.grown(offset):
                        continue
                    return
                offset += len(block)
                text = decoder.decode(block)
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


class Decoder:
    """Turns entries into what a reader gets."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._in_line = False
        """The last entry was a part that another follows."""

    def decode(self, entries: bytes) -> bytes:
        """Whole entries as text."""
        if not self._in_line and not _PARTIAL_ENTRY.search(entries):
            return _FULL_ENTRY.sub(rb"\1" if self._timestamps else b"", entries)
        return b"".join(map(self._decode_one, entries.split(b"\n")[:-1]))

    def _decode_one(self, entry: bytes) -> bytes:
        stamp = b"" if self._in_line or not self._timestamps else entry[:_STAMP]
        self._in_line = entry[_STAMP : _STAMP + 1] == b"P"
        return stamp + entry[_TEXT:] + (b"" if self._in_line else b"\n")


def find_tail(descriptor: int, size: int, lines: int) -> int:
    """Where the last `lines` entries of a file begin."""
    if lines <= 0:
        return size
    position, wanted = size, lines + 1  # the last entry ends with a newline of its own
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
    """Where the first entry at or after an instant begins: a binary search, because they are in order of time."""
    wanted = times.to_nanos(since).encode()
    low, high = 0, size  # the wanted offset is an entry's beginning in [low, high]
    while low < high:
        middle = (low + high) // 2
        start = entry_start(descriptor, middle)
        if os.pread(descriptor, len(wanted), start) >= wanted:
            high = start
        else:
            low = entry_end(descriptor, middle, size)
    return low


def entry_start(descriptor: int, position: int) -> int:
    """The beginning of the entry that the byte at `position` belongs to."""
    while position > 0:
        start = max(0, position - 4096)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def entry_end(descriptor: int, position: int, size: int) -> int:
    """The beginning of the next entry."""
    while position < size:
        block = os.pread(descriptor, 4096, position)
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return size
