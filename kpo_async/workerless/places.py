"""Limits on the pods that one triggerer runs at once: Airflow's scheduler does not limit tasks without a worker.

`[kpo_async] max_pods` is the limit of a triggerer's process, `[kpo_async] max_pods_per_namespace` that of each
namespace in it, and the extra `max_pods` of a connection that of the connection's pods. 0 means no limit.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kpo_async.hooks.connection import fetch_extras
from kpo_async.hooks.settings import integer
from kpo_async.metrics import PLACES_WAITING, provide_gauges

log = logging.getLogger(__name__)


@dataclass(order=True)
class _Waiting:
    """A task that waits: the highest weight first, then the one that came first."""

    order: tuple[int, int]
    limits: Mapping[str, int] = field(compare=False)
    admitted: asyncio.Event = field(compare=False)


class Places:
    """The places of one event loop, counted by what limits them."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        provide_gauges(lambda: [(PLACES_WAITING, len(self._waiting), ())])

    async def limits(self, namespace: str, conn_id: str | None) -> dict[str, int]:
        """Return the limits of a pod, by what they limit. Raises `ConfigError` for an unreadable connection."""
        extras = await fetch_extras(conn_id)
        found = {
            "this triggerer": integer("max_pods"),
            f"namespace {namespace!r}": integer("max_pods_per_namespace"),
            f"connection {conn_id!r}": extras.number("max_pods") or 0,
        }
        return {scope: limit for scope, limit in found.items() if limit > 0}

    async def take(self, limits: Mapping[str, int], *, weight: int = 1, at_once: bool = False) -> Place:
        """Wait for a place within all limits and take it; `at_once` for a pod that runs already."""
        if not at_once:
            await self._wait(limits, weight)
        else:
            self._taken.update(limits.keys())
        return Place(self, limits)

    async def _wait(self, limits: Mapping[str, int], weight: int) -> None:
        waiting = _Waiting((-weight, next(self._numbers)), limits, asyncio.Event())
        bisect.insort(self._waiting, waiting)
        self._admit()
        try:
            if not waiting.admitted.is_set():
                full = self._full(limits) or next(iter(limits))
                log.info("Waiting for a place: %d of %d pods of %s run", self._taken[full], limits[full], full)
            await waiting.admitted.wait()
        except asyncio.CancelledError:
            if waiting.admitted.is_set():
                self.leave(limits)
            else:
                self._waiting.remove(waiting)
            raise

    def leave(self, limits: Mapping[str, int]) -> None:
        """Give a place back."""
        self._taken.subtract(limits.keys())
        self._admit()

    def _admit(self) -> None:
        remaining = []
        for waiting in self._waiting:
            if self._full(waiting.limits):
                remaining.append(waiting)
            else:
                self._taken.update(waiting.limits.keys())
                waiting.admitted.set()
        self._waiting = remaining

    def _full(self, limits: Mapping[str, int]) -> str | None:
        return next((scope for scope, limit in limits.items() if self._taken[scope] >= limit), None)


@dataclass
class Place:
    """A place that is taken."""

    places: Places
    limits: Mapping[str, int]

    def leave(self) -> None:
        """Give it back, once."""
        self.places.leave(self.limits)
