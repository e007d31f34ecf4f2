"""Retry policy, backoff and rate limit: everything that decides how soon a request is sent again.

Arithmetic only, except for `TokenBucket.take`. Callers do the waiting, so each pause ends when its caller is cancelled.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from kpo_async.exceptions import ApiError, UnreachableError
from kpo_async.kube.errors import Unreachable

_RETRIED_CODES = frozenset({429, 500, 502, 503, 504})
_NEVER_RETRIED = frozenset({Unreachable.CERTIFICATE, Unreachable.ADDRESS})


def is_retried(error: ApiError) -> bool:
    """Whether the same call may succeed a moment later.

    Not after a 409: following an ambiguous create it is the answer, and the caller knows what it means. But a create
    that conflicts with another one in the namespace's quota has made nothing, and says "Conflict", not "AlreadyExists".
    """
    if isinstance(error, UnreachableError):
        return error.reason not in _NEVER_RETRIED
    return error.code in _RETRIED_CODES or (error.verb == "create" and error.reason == "Conflict")


@dataclass(frozen=True)
class Backoff:
    """Exponential delays with jitter, in seconds: `first`, multiplied by `factor` after each failure, up to `cap`.

    `jitter` is the random share of a delay: 1 makes it uniform between 0 and its ceiling, 0 makes it the ceiling.
    """

    first: float = 0.5
    factor: float = 2.0
    cap: float = 8.0
    jitter: float = 1.0

    def ceiling(self, failures: int) -> float:
        """The longest delay after the `failures`-th failure in a row."""
        return min(self.cap, self.first * self.factor ** min(failures - 1, 64))

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """The delay after the `failures`-th failure in a row, added to the server's Retry-After."""
        return (retry_after or 0.0) + self.ceiling(failures) * (1 - self.jitter * random.random())


HEALTHY_AFTER = 120.0
"""Seconds without a failure after which a stream counts as healthy and the next failure as the first."""
RECONNECT_CAP = 12.0
"""Seconds. client-go waits up to 30 s, for thousands of kubelets. One stream serves all pods of a process here, and the
end of an outage, however long, must not go unnoticed for longer than this."""


class ReconnectBackoff:
    """The pauses of one long-lived stream between connections: 0.8 s, doubled up to `RECONNECT_CAP`, with full jitter.

    Starts over after `HEALTHY_AFTER` seconds without a failure.
    """

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(first=0.8, cap=RECONNECT_CAP)
        self._failed_at = float("-inf")
        self.failures = 0

    def pause(self, now: float, retry_after: float | None = None) -> float:
        """Seconds to wait after a failure at `now` (loop time); never less than the server's Retry-After."""
        if now - self._failed_at >= HEALTHY_AFTER:
            self.failures = 0
        self.failures += 1
        pause = self._backoff.delay(self.failures, retry_after)
        # Health is counted from the next attempt: the pause itself does not count.
        self._failed_at = now + pause
        return pause


class TokenBucket:
    """A rate limit: `burst` calls at once, then `rate` a second. Belongs to one event loop.

    Either `await take()`, which is first come first served, or ask for `delay()`, wait elsewhere and `spend()`.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        """Tokens a second. May be changed at any time."""
        self._burst = burst
        self._tokens = float(burst)
        self._counted_at = 0.0

    @property
    def tokens(self) -> float:
        """Tokens in the bucket now. Below zero as long as calls wait for tokens that they have spent already."""
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self.rate)
        self._counted_at = now
        return self._tokens

    def delay(self) -> float:
        """Seconds until there is a whole token; 0 if there is one."""
        return max(0.0, (1 - self.tokens) / self.rate)

    def spend(self) -> None:
        """Take a token out, even one that is not there yet."""
        self._tokens = self.tokens - 1

    async def take(self) -> None:
        """Wait for a token and spend it. A cancelled caller's token is lost, which errs towards fewer calls."""
        delay = self.delay()
        self.spend()
        if delay > 0:
            await asyncio.sleep(delay)
