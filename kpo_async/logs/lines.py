"""Parse the bytes of a container's log into lines, each line once. Pure.

Where to resume is counted, not compared. The API server truncates `sinceTime` to whole seconds, and the runtime stamps
stdout and stderr separately, so that a log's timestamps are not even in order (both seen on Kubernetes 1.34). So a
cursor is a whole second and the number of lines seen from it on. The file only grows and the server always selects the
same lines, hence those are the first lines of the answer. No clock of this host is involved.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

import msgspec

from kpo_async.compat import Self

MAX_LINE = 64 * 1024
"""Bytes of a line after which it is returned in pieces."""
CONTINUED = "\u2026"
"""Ends a piece that another one follows, and begins the one that follows."""
LOG_FILE_BYTES = 8 * 1024 * 1024
"""A log that is larger than this may have been rotated; kubelets rotate at 10 MiB unless configured otherwise."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)(?: |$)")
_STAMP_ROOM = 64
_PLAIN = len("2026-11-21T09:00:00.123456789Z")
"""Length of a timestamp as most kubelets write it: in UTC, with nanoseconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ENDLESS = 1 << 62
_ROTATED = "the log was rotated before they were read, or the container restarted"
_READ_SLOWLY = "the log was read so slowly that it may have been rotated twice meanwhile"


class Position(NamedTuple):
    """Where reading can resume, as a `Cursor` before it is formatted."""

    second: int
    """The newest second read, since 1970."""
    seen: int
    """Lines read of that second and of the one before."""
    newest: str
    """The newest timestamp read."""
    part: int
    """Bytes read of the next line."""


class LogLine(NamedTuple):
    """One line of a container. `timestamp` is the runtime's, RFC 3339 with nanoseconds, or "" if there was none yet."""

    container: str
    timestamp: str
    text: str
    position: Position | None = None
    """Where reading resumes after this line; None for a note, which is not in the container's log."""


def note(container: str, text: str) -> LogLine:
    """Return a line of our own, to be read among the container's lines."""
    return LogLine(container, "", f"(kpo-async: {text})")


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How much of a container's log has been read. The default is nothing. In JSON it is an array of its fields."""

    since: str = ""
    """A whole second, for `sinceTime`: the one before the newest, because lines may be a little out of order."""
    seen: int = 0
    """How many of the lines from `since` on have been read."""
    last: str = ""
    """The newest timestamp read. If an answer gets beyond it before `seen` lines, lines were rotated away."""
    part: int = 0
    """How many bytes of the next line have been read, if it is a long one."""

    @classmethod
    def at(cls, position: Position) -> Self:
        """Return the cursor of a position."""
        if not position.newest:
            return cls(part=position.part)
        since = (_EPOCH + timedelta(seconds=position.second - 1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(since, position.seen, position.newest, position.part)


class LineReader:
    """Turns the chunks of one answer to `pods/log?timestamps=true` into the lines that come after a cursor.

    The request must have had the cursor's `since`. A line without a timestamp (a message of the kubelet itself)
    inherits the one before it and is not counted. Where lines may be missing, a note is returned among the lines.
    """

    def __init__(self, container: str, cursor: Cursor | None = None) -> None:
        self._container = container
        self._start = cursor or Cursor()
        self.suspicious_pause: float | None = None
        """Seconds between two lines from which on a note says that lines may be missing between them. To be set while
        the server is held back: a kubelet that could not send for two rotations of the log skips the file in between.
        """
        self._rest = b""
        # The current line: how much of it was read, and how much of it is not to be returned.
        self._begun = self._stamped = False
        self._offset = self._hide = 0
        # What was read before, and comes again at the beginning of this answer.
        self._skip, self._resume_part = self._start.seen, self._start.part
        self._overlaps = False
        # For the next cursor: the lines of the newest second, and of the second before it.
        since = _STAMP.match(self._start.since.encode())
        self._second = _epoch_second(since) + 1 if since else 0
        self._count = self._count_before = 0
        last = _STAMP.match(self._start.last.encode())
        self._newest = _order(last, _epoch_second(last)) if last else (0, b"")
        self._newest_stamp = self._start.last
        self._stamp = ""
        self._known_second: tuple[bytes, bytes, int] = (b"", b"", 0)
        self._fast_prefix = b""
        """Prefix of lines in the newest second; enables the fast path."""

    @property
    def cursor(self) -> Cursor:
        """Where to resume after the lines returned so far."""
        return self._start if self._skip else Cursor.at(self._position())

    @property
    def replaying(self) -> bool:
        """Whether lines that were read before are still to come."""
        return self._skip > 0

    @property
    def _lacks_beginning(self) -> bool:
        """Whether none of the lines that were read before has come."""
        return self._skip > 0 and not self._overlaps

    def _position(self) -> Position:
        part = max(self._offset, self._hide) if self._begun and self._stamped else self._resume_part
        return Position(self._second, self._count_before + self._count, self._newest_stamp, part)

    def feed(self, chunk: bytes) -> list[LogLine]:
        """Return the lines that `chunk` completes, and the pieces of a long line that it continues."""
        found: list[LogLine] = []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if not (self._fast_prefix and line.startswith(self._fast_prefix) and self._read_fast(line, found)):
                self._read(line, found, complete=True)
        if len(self._rest) > MAX_LINE + _STAMP_ROOM:
            self._rest = self._read(self._rest, found, complete=False)
        return found

    def end(self) -> list[LogLine]:
        """Return the last line, if it lacks its line end. Only for an answer that came whole."""
        found: list[LogLine] = []
        if self._rest:
            self._read(self._rest, found, complete=True)
            self._rest = b""
        if self._lacks_beginning:
            found.append(note(self._container, _missing(self._newest_stamp, "", _ROTATED)))
        return found

    def _read_fast(self, line: bytes, found: list[LogLine]) -> bool:
        """Read a whole line of the newest second with a plain timestamp, as nearly all are. Return False for others."""
        if self._begun or len(line) > MAX_LINE or line[_PLAIN - 1 : _PLAIN + 1] != b"Z " or b"\r" in line:
            return False
        self._stamp = line[:_PLAIN].decode()
        if self._stamp > self._newest_stamp:
            self._newest_stamp = self._stamp
            self._newest = (self._second, line[20 : _PLAIN - 1])
        self._count += 1
        text = line[_PLAIN + 1 :].decode("utf-8", "backslashreplace")
        position = Position(self._second, self._count_before + self._count, self._newest_stamp, 0)
        found.append(LogLine(self._container, self._stamp, text, position))
        return True

    def _read(self, data: bytes, found: list[LogLine], *, complete: bool) -> bytes:
        """Continue with the current line. Return what of it is left for the next chunk."""
        if not self._begun:
            data = self._begin(data, found)
        empty = complete and not data and not self._offset and not self._hide
        hidden = min(len(data), max(0, self._hide - self._offset))
        self._offset += hidden
        data = data[hidden:]
        while len(data) > MAX_LINE or (complete and data) or empty:
            piece = data if len(data) <= MAX_LINE else data[: _boundary(data, MAX_LINE)]
            data = data[len(piece) :]
            text = _apply_carriage_returns(piece.decode("utf-8", "backslashreplace"))
            before = CONTINUED if self._offset else ""
            after = CONTINUED if data or not complete else ""
            self._offset = size = self._offset + len(piece)
            if complete and not data:
                self._finish()
            found.append(LogLine(self._container, self._stamp, before + text + after, self._position()))
            if complete and not data and size > LOG_FILE_BYTES and self.suspicious_pause is not None:
                found.append(
                    note(self._container, f"parts may be missing of this line of {size} bytes: {_READ_SLOWLY}")
                )
            empty = False
        if complete and self._begun:
            self._finish()
        return data

    def _begin(self, line: bytes, found: list[LogLine]) -> bytes:
        """Read the timestamp and decide how much of the line was read before. Return its text."""
        self._begun = True
        self._offset = 0
        match = _STAMP.match(line)
        self._stamped = match is not None
        if match is not None:
            self._advance(match, found)
        if self._skip:
            self._hide = _ENDLESS
        elif self._stamped:
            self._hide, self._resume_part = self._resume_part, 0
        else:
            self._hide = 0
        return line[match.end() :] if match is not None else line

    def _advance(self, match: re.Match[bytes], found: list[LogLine]) -> None:
        date, zone = match.group(1, 3)
        if (date, zone) != self._known_second[:2]:
            self._known_second = (date, zone, _epoch_second(match))
        second = self._known_second[2]
        self._stamp = match[0].decode().rstrip()
        order = _order(match, second)
        if order <= self._newest:
            self._overlaps = True
            return
        if self._lacks_beginning or self._resume_part:
            found.append(note(self._container, _missing(self._newest_stamp, self._stamp, _ROTATED)))
        elif self._is_suspicious(order):
            found.append(note(self._container, _missing(self._newest_stamp, self._stamp, _READ_SLOWLY)))
        self._skip = self._resume_part = 0
        self._newest, self._newest_stamp = order, self._stamp
        if second > self._second:
            self._count_before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        self._fast_prefix = date + b"." if len(self._stamp) == _PLAIN and zone == b"Z" else b""

    def _is_suspicious(self, order: tuple[int, bytes]) -> bool:
        pause = self.suspicious_pause
        return pause is not None and bool(self._newest_stamp) and _seconds(order) - _seconds(self._newest) >= pause

    def _finish(self) -> None:
        if self._stamped:
            self._skip -= self._skip > 0
            second = self._known_second[2]
            self._count += second == self._second
            self._count_before += second == self._second - 1
        self._begun = False
        self._offset = self._hide = 0


def _epoch_second(match: re.Match[bytes]) -> int:
    """Return seconds since 1970. Zones matter: nodes stamp in their own, which may change twice a year."""
    date, zone = match[1], match[3].decode()
    try:
        moment = datetime.strptime(date.decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return 0
    ahead = 0 if zone == "Z" else (int(zone[1:3]) * 60 + int(zone[4:6])) * 60 * (-1 if zone[0] == "-" else 1)
    return int((moment - _EPOCH).total_seconds()) - ahead


def _order(match: re.Match[bytes], second: int) -> tuple[int, bytes]:
    """Return what timestamps are compared by."""
    return second, (match[2] or b"").ljust(9, b"0")


def seconds_of(timestamp: str) -> float | None:
    """Return the seconds since 1970 of an RFC 3339 timestamp, None if it is not one."""
    match = _STAMP.match(timestamp.encode())
    return None if match is None else _seconds(_order(match, _epoch_second(match)))


def _seconds(order: tuple[int, bytes]) -> float:
    return order[0] + int(order[1]) / 1e9


def _missing(after: str, until: str, reason: str) -> str:
    """Return a note on a gap. `until` is "" when it is not known."""
    start, end = seconds_of(after), seconds_of(until)
    if start is None or end is None:
        return f"lines written after {after} may be missing: {reason}"
    return f"lines written between {after} and {until} ({end - start:.3f} s) may be missing: {reason}"


def _boundary(text: bytes, limit: int) -> int:
    """Return where to cut, at most at `limit`, without cutting a UTF-8 character."""
    for end in range(limit, limit - 4, -1):
        if text[end] & 0xC0 != 0x80:
            return end
    return limit


def _apply_carriage_returns(text: str) -> str:
    """Apply carriage returns, which start a line over: of a progress bar, only the last state remains."""
    if "\r" not in text:
        return text
    return next((part for part in reversed(text.split("\r")) if part.strip()), "")
