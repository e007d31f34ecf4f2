"""How far the API server's clock is from this host's, read off the answers it gives.

Deadlines start at moments that Kubernetes wrote down: on a host whose clock is minutes ahead, healthy pods would be
given up.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

_ZERO = timedelta(0)
_RESOLUTION = timedelta(seconds=1)


class ServerClock:
    """The API server's clock, as far as it can be told from here."""

    def __init__(self) -> None:
        self.ahead = _ZERO
        """How much later it is there: the least that explains the last answer, so 0 between hosts that agree."""

    def read(self, date: str | None, asked: datetime, answered: datetime) -> None:
        """Take note of the `Date` header (RFC 9110, whole seconds) of what was asked and answered at our times."""
        try:
            stated = parsedate_to_datetime(date or "")
        except ValueError:
            return
        if stated.tzinfo is None:
            stated = stated.replace(tzinfo=timezone.utc)
        least, most = stated - answered, stated + _RESOLUTION - asked
        self.ahead = min(max(_ZERO, least), most)
