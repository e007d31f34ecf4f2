"""When a unary call is tried again, how soon, and how many calls a second one client may make.

Pure arithmetic on the loop's clock; the client does the waiting. The watch has its own backoff and uses `Backoff` alone.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
"""409 is not among them: after an ambiguous create it is the answer, and the caller knows what it means."""


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with full jitter (each uniform between nothing and the ceiling). Seconds."""

    first: float = 0.5
    factor: float = 2.0
    cap: float = 8.0

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """How long to wait after the `failures`-th failure in a row; never less than the server asked for."""
        ceiling = min(self.cap, self.first * self.factor ** min(failures - 1, 32))
        jittered = random.uniform(0, ceiling)
        return jittered if retry_after is None else retry_after + jittered


class RateLimit:
    """A token bucket: `burst` calls at once, then `rate` a second, first come first served."""

    def __init__(self, rate: float = 50.0, burst: int = 100) -> None:
        self._interval = 1 / rate
        self._allowance = burst * self._interval
        self._due = 0.0

    async def take(self) -> None:
        """Wait for this call's turn."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now - self._allowance) + self._interval
        if self._due > now:
            await asyncio.sleep(self._due - now)
