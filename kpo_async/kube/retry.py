"""Which failures are worth another try, how soon, and how many calls a second one client may make.

Arithmetic on the event loop's clock; the client does the waiting. The watch has a policy of its own, made of `Backoff`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from kpo_async.exceptions import ApiError, UnreachableError
from kpo_async.kube.errors import Unreachable

_RETRIED_CODES = frozenset({429, 500, 502, 503, 504})
_HOPELESS = frozenset({Unreachable.CERTIFICATE, Unreachable.ADDRESS})


def is_retried(error: ApiError) -> bool:
    """Whether the same call may succeed a moment later.

    Never after a 409: following an ambiguous create it is the answer, and the caller knows what it means.
    """
    if isinstance(error, UnreachableError):
        return error.reason not in _HOPELESS
    return error.code in _RETRIED_CODES


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with full jitter: each is uniform between nothing and a ceiling that doubles. Seconds."""

    first: float = 0.5
    factor: float = 2.0
    cap: float = 8.0

    def ceiling(self, failures: int) -> float:
        """The longest delay after the `failures`-th failure in a row."""
        return min(self.cap, self.first * self.factor ** min(failures - 1, 64))

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """How long to wait after the `failures`-th failure in a row; never less than the server asked for."""
        return (retry_after or 0.0) + random.uniform(0, self.ceiling(failures))


class RateLimit:
    """A token bucket: `burst` calls at once, then `rate` a second, first come first served."""

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._slack = (burst - 1) * self._interval
        self._due = 0.0
        """Loop time at which the next call would be due if all calls were spaced evenly."""

    async def take(self) -> None:
        """Wait for this call's turn. A cancelled waiter's turn is lost, which only errs towards fewer calls."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now)
        wait = self._due - self._slack - now
        self._due += self._interval
        if wait > 0:
            await asyncio.sleep(wait)
