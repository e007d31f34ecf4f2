"""How far the API server's clock is ahead of this host's, from the Date headers of its responses.

Deadlines start at times that Kubernetes has written: a host whose clock runs minutes ahead would give up healthy pods.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

_ZERO = timedelta(0)
_RESOLUTION = timedelta(seconds=1)


class ServerClock:
    """An estimate of the API server's clock."""

    def __init__(self) -> None:
        self.ahead = _ZERO
        """How much later it is there: the smallest value that explains the last response, 0 for clocks that agree."""

    def read(self, date: str | None, sent: datetime, received: datetime) -> None:
        """Note a response's `Date` header (RFC 9110, whole seconds). `sent`, `received`: by this host's clock."""
        try:
            stated = parsedate_to_datetime(date or "")
        except ValueError:
            return
        if stated.tzinfo is None:
            stated = stated.replace(tzinfo=timezone.utc)
        least, most = stated - received, stated + _RESOLUTION - sent
        self.ahead = min(max(_ZERO, least), most)
