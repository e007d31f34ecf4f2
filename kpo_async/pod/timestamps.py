"""Parse Kubernetes' timestamps (RFC 3339, whole seconds, UTC)."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache


@lru_cache(maxsize=4096)
def parse_time(text: str | None) -> datetime | None:
    """Return the moment that `text` names; None if it is empty, not a timestamp, or the zero time of 1970."""
    if not text:
        return None
    try:
        year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
        parsed = datetime(year, month, day, int(text[11:13]), int(text[14:16]), int(text[17:19]), tzinfo=timezone.utc)
    except ValueError:
        return None
    return parsed if year > 1970 else None
