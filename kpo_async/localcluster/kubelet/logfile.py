"""The log of one run of a container: a pipe that is copied to a file, and the readers of that file.

The file has containerd's entries, one a line: `<nanosecond timestamp> F <text>` for a line or its last part, and
`<timestamp> P <text>` for a part that another one follows. A line is split every 16 KiB; a last line without a newline
is a part. Each timestamp is later than the one before it. As on a real kubelet, readers get the parts of a line joined,
with the first one's timestamp, and `tailLines` and `sinceTime` count parts: a log may start in the middle of a line.
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
"""The size in bytes of a line's part (containerd's max_container_log_line_size)."""

_STAMP = len("2026-01-02T03:04:05.000000006Z ")
_TEXT = _STAMP + len("F ")
_BLOCK = 64 * 1024
_READ = 16 * 1024
"""Bytes read from a pipe at a time: thousands of short lines, and some milliseconds of work."""
_PIPE_READS = 1 + 64 * 1024 // _READ
"""Reads that empty a full pipe."""
_FULL_ENTRY = re.compile(rb"^(.{%d})F " % _STAMP, re.MULTILINE)
_PARTIAL_ENTRY = re.compile(rb"^.{%d}P " % _STAMP, re.MULTILINE)


class LogFile:
    """The log of one run of a container. Its process writes to the pipe of `open_pipe`."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = 0
        self.closed = False
        """No more entries will be written."""
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
        """Open a pipe and return its writing end; the log copies what is written to it."""
        self._pipe, writing = os.pipe()
        os.set_blocking(self._pipe, False)
        asyncio.get_running_loop().add_reader(self._pipe, self._read)
        return writing

    def _read(self) -> bool:
        """Log a bounded piece of what the pipe holds; return False when it is empty."""
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
        """Log bytes of a container's output."""
        self._now = self._clock()
        *lines, rest = (self._pending + data).split(b"\n")
        entries = bytearray()
        for line in lines:
            self._add(entries, b"F", self._split(entries, line))
        self._pending = self._split(entries, rest)
        self._append(entries)

    def _split(self, entries: bytearray, line: bytes) -> bytes:
        """Log all parts of a line except the last, and return the last."""
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
        """Log the rest of the pipe, and end the readers that follow."""
        if self.closed:
            return
        for _ in range(_PIPE_READS):  # Bounded, because a process that outlives its container may still write.
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
        """Wait until the file has more than `size` bytes; return False if the log ends first."""
        while self.size <= size:
            if self.closed:
                return False
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            await reader
        return True

    def tail(self, lines: int, limit: int) -> str:
        """Return the text of the last lines, at most `limit` bytes of it."""
        with self.path.open("rb") as file:
            file.seek(find_tail(file.fileno(), self.size, lines))
            text = EntryDecoder(timestamps=False).decode(file.read())
        return text[-limit:].decode(errors="replace")

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield the log according to `options`; following ends with the container."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offset = self._start(descriptor, options)
            decoder = EntryDecoder(timestamps=options.timestamps)
            remaining = options.limit_bytes
            while remaining is None or remaining > 0:
                block = os.pread(descriptor, _BLOCK, offset)
                block = block[: block.rfind(b"\n") + 1]
                if not block:
                    if options.follow and await self.grown(offset):
                        continue
                    return
                offset += len(block)
                text = decoder.decode(block)
                if remaining is not None:
                    text = text[:remaining]
                    remaining -= len(text)
                yield text
        finally:
            os.close(descriptor)

    def _start(self, descriptor: int, options: LogOptions) -> int:
        """The offset to start reading at: the later one of `sinceTime` and `tailLines`."""
        since = options.since_time
        if options.since_seconds is not None:
            since = self._clock() - options.since_seconds * times.SECOND
        offset = 0 if since is None else find_time(descriptor, self.size, since)
        if options.tail_lines is not None:
            offset = max(offset, find_tail(descriptor, self.size, options.tail_lines))
        return offset

    def remove(self) -> None:
        """Close the log and delete the file; open readers can continue."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class EntryDecoder:
    """Converts entries to the text that readers get."""

    def __init__(self, *, timestamps: bool) -> None:
        self._timestamps = timestamps
        self._in_line = False
        """The last entry was a part that another one follows."""

    def decode(self, entries: bytes) -> bytes:
        """Return the text of whole entries."""
        if not self._in_line and not _PARTIAL_ENTRY.search(entries):
            return _FULL_ENTRY.sub(rb"\1" if self._timestamps else b"", entries)
        return b"".join(map(self._decode_one, entries.split(b"\n")[:-1]))

    def _decode_one(self, entry: bytes) -> bytes:
        stamp = b"" if self._in_line or not self._timestamps else entry[:_STAMP]
        self._in_line = entry[_STAMP : _STAMP + 1] == b"P"
        return stamp + entry[_TEXT:] + (b"" if self._in_line else b"\n")


def find_tail(descriptor: int, size: int, lines: int) -> int:
    """Return the offset of the last `lines` entries of a file."""
    if lines <= 0:
        return size
    position, wanted = size, lines + 1  # The last entry ends with a newline, too.
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
    """Return the offset of the first entry at or after an instant, by binary search: entries are sorted by time."""
    wanted = times.to_nanos(since).encode()
    low, high = 0, size  # The result is the start of an entry in [low, high].
    while low < high:
        middle = (low + high) // 2
        start = entry_start(descriptor, middle)
        if os.pread(descriptor, len(wanted), start) >= wanted:
            high = start
        else:
            low = entry_end(descriptor, middle, size)
    return low


def entry_start(descriptor: int, position: int) -> int:
    """Return the start of the entry that contains the byte at `position`."""
    while position > 0:
        start = max(0, position - 4096)
        found = os.pread(descriptor, position - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0


def entry_end(descriptor: int, position: int, size: int) -> int:
    """Return the start of the next entry."""
    while position < size:
        block = os.pread(descriptor, 4096, position)
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return size
