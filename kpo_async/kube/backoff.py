"""How long one stream waits before it is opened again. Pure arithmetic; the stream does the waiting."""

from __future__ import annotations

from kpo_async.kube.retry import Backoff

HEALTHY = 120.0
"""Seconds without a failure after which the next one counts as the first."""
LONGEST = 12.0
"""Seconds. client-go waits up to 30 s, for thousands of kubelets; here one stream stands for all pods of a process, and
however long an outage was, its end must not go unnoticed for longer than this."""


class Recovery:
    """0.8 s, doubled up to `LONGEST`, each with full jitter; from the beginning after two healthy minutes."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff(first=0.8, cap=LONGEST)
        self._failed_at = float("-inf")
        self.failures = 0

    def pause(self, now: float, retry_after: float | None = None) -> float:
        """Seconds to wait after a failure at `now`; never less than the server asked for."""
        if now - self._failed_at >= HEALTHY:
            self.failures = 0
        self.failures += 1
        pause = self._backoff.delay(self.failures, retry_after)
        # Health is counted from the next attempt on: the time spent waiting is none.
        self._failed_at = now + pause
        return pause
