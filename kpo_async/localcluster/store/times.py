"""Kubernetes' timestamps: RFC 3339 in UTC, with seconds (Time), microseconds (MicroTime) or nanoseconds (log lines).

Instants are integers, nanoseconds since the epoch, so that no digit is lost to floating point.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))",
)


def now() -> int:
    """Return the current instant."""
    return time.time_ns()


def to_seconds(instant: int) -> str:
    """Return `2026-01-02T03:04:05Z`, the form of `metadata.creationTimestamp`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant // SECOND))


def to_micros(instant: int) -> str:
    """Return `2026-01-02T03:04:05.000006Z`, the form of `Event.eventTime`."""
    return f"{to_seconds(instant)[:-1]}.{instant % SECOND // 1000:06d}Z"


def to_nanos(instant: int) -> str:
    """Return `2026-01-02T03:04:05.000000006Z`, the form of a log line's timestamp: always nine digits."""
    return f"{to_seconds(instant)[:-1]}.{instant % SECOND:09d}Z"


def parse(text: str) -> int:
    """Return the instant of an RFC 3339 timestamp. Raises ValueError for anything else."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    day, clock, fraction, _, sign, hours, minutes = found.groups()
    whole = datetime.strptime(f"{day}T{clock}", "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    instant = int(whole.timestamp()) * SECOND + int((fraction or "").ljust(9, "0") or 0)
    if sign:
        offset = (int(hours) * 3600 + int(minutes) * 60) * SECOND
        instant += -offset if sign == "+" else offset
    return instant
