"""Formatted lines to the pieces of log records, so that each record is written atomically. Pure.

A triggerer's records are lines of JSON in a stream socket that several threads write to. A write that the kernel splits
can have another thread's record inside: the supervisor then reads two malformed lines, and both records are lost. Linux
queues a write in one buffer up to 36 KiB (`unix_stream_sendmsg` in net/unix/af_unix.c: SKB_MAX_HEAD(0) +
UNIX_SKB_FRAGS_SZ with 4 KiB pages, at most half of SO_SNDBUF), before Linux 3.13 up to 16 KiB (SKB_MAX_ALLOC). Seen on
6.18: 36,600 bytes are one buffer, 40,000 are two.

So a record stays below 16 KiB as JSON, as Airflow's renderer writes it (`msgspec.json.encode` in
airflow/sdk/_shared/logging/structlog.py): a control byte takes 6 bytes, a quote 2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from kpo_async.logs.lines import CONTINUED, LogLine
from kpo_async.logs.plan import LineFormat, level_of

RECORD_BYTES = 12 * 1024
"""JSON of one record's text."""
ENVELOPE_BYTES = 512
"""JSON around the text, about: timestamp, level, logger, place in the source, ids of trigger, DAG and task."""
_NEWLINE_BYTES = 2
_MARKERS = ("::group::", "::endgroup::")
"""Airflow's page shows nothing but a header of a record with the first, and nothing of one with the second."""


@dataclass(frozen=True)
class LogRecord:
    """What is logged at once: one line, many under load, or a part of a long one.

    `text` is formatted. `lines` are the lines that end in this record, as they were read.
    """

    level: int
    text: str
    lines: tuple[LogLine, ...]


Sink = Callable[[LogRecord], None]
"""Where records go: a logger, in the end. Called on the event loop, in the follower's context."""


class Piece(NamedTuple):
    """A formatted line, or a part of one that is too long for a record."""

    level: int
    text: str
    size: int
    """Bytes of `text` as JSON."""
    line: LogLine | None
    """The line that ends with this piece; None when another piece of it follows."""

    @property
    def is_marker(self) -> bool:
        return any(marker in self.text for marker in _MARKERS)


def pieces(line: LogLine, format_line: LineFormat) -> Iterator[Piece]:
    """Format a line and cut it so that each piece fits into a record."""
    level = level_of(line.text)
    parts = list(_cut(format_line(line.container, line.text)))
    for number, part in enumerate(parts, 1):
        text = (CONTINUED if number > 1 else "") + part + (CONTINUED if number < len(parts) else "")
        yield Piece(level, text, json_size(text), line if number == len(parts) else None)


def fits(piece: Piece, batch: list[Piece], size: int, limit: int) -> bool:
    """Return whether `piece` can join the `batch` of `size` bytes in one record. A marker needs one of its own."""
    if not batch:
        return True
    first = batch[0]
    return (
        size + _NEWLINE_BYTES + piece.size <= limit
        and piece.level == first.level
        and not piece.is_marker
        and not first.is_marker
    )


def next_size(size: int, piece: Piece) -> int:
    """Return the size of a batch of `size` bytes once `piece` has joined it."""
    return size + piece.size + (_NEWLINE_BYTES if size else 0)


def record_of(batch: list[Piece]) -> LogRecord:
    """Return the record that consists of the pieces."""
    text = "\n".join(piece.text for piece in batch)
    return LogRecord(batch[0].level, text, tuple(piece.line for piece in batch if piece.line is not None))


def split(text: str) -> Iterator[str]:
    """Split a text of many lines into as few texts as fit into a record each, at line ends where that is possible."""
    batch: list[Piece] = []
    size = 0
    for part in (part for line in text.splitlines() for part in _cut(line)):
        piece = Piece(logging.INFO, part, json_size(part), None)
        if not fits(piece, batch, size, RECORD_BYTES):
            yield record_of(batch).text
            batch, size = [], 0
        batch.append(piece)
        size = next_size(size, piece)
    if batch:
        yield record_of(batch).text


def json_size(text: str) -> int:
    """Return the bytes of `text` in JSON, without the quotes."""
    try:
        return len(msgspec.json.encode(text)) - 2
    except UnicodeEncodeError:  # a lone surrogate, out of a user's formatter; Airflow writes "?" in its place
        return len(msgspec.json.encode(text.encode("utf-8", "replace").decode())) - 2


def _cut(text: str) -> Iterator[str]:
    if json_size(text) <= RECORD_BYTES - 2 * len(CONTINUED.encode()):
        yield text
        return
    middle = len(text) // 2
    yield from _cut(text[:middle])
    yield from _cut(text[middle:])
