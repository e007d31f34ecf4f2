"""Limits on the pods that one triggerer runs at once: Airflow's scheduler does not limit tasks without a worker.

    [kpo_async] max_pods                    of a triggerer's process
    [kpo_async] max_pods_per_namespace      of each namespace in it
    [kpo_async] max_pods_per_dag            of each DAG in it
    [kpo_async] start_from_trigger_pools    of a pool, which counts `pool_slots`: `narrow:16`
    extra `max_pods` of a connection        of the connection's pods

0 means no limit. A triggerer that starts is given the tasks of the one before it in no order. So it counts the pods
that run already, until no more of them have been found for a moment, before it starts any.
"""

from __future__ import annotations

import asyncio
import bisect
import contextvars
import itertools
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kpo_async.hooks import settings
from kpo_async.hooks.connection import fetch_extras
from kpo_async.metrics import PLACES_WAITING, provide_gauges

log = logging.getLogger(__name__)

SETTLING = 3.0
"""Seconds without a pod that runs already until a triggerer starts others. It is given 50 tasks a second."""
SETTLED = 120.0
"""Seconds after which a triggerer starts pods in any case."""


@dataclass(frozen=True)
class Demand:
    """What a task takes of a scope's limit."""

    limit: int
    places: int = 1


@dataclass(order=True)
class _Waiting:
    """A task that waits: the highest weight first, then the one that came first."""

    order: tuple[int, int]
    demands: Mapping[str, Demand] = field(compare=False)
    admitted: asyncio.Event = field(compare=False)


class Places:
    """The places of one event loop, counted by what limits them."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        provide_gauges(lambda: [(PLACES_WAITING, len(self._waiting), ())])
        self._loop = asyncio.get_running_loop()
        self._settled_at = self._loop.time() + SETTLING
        self._settled_at_last = self._loop.time() + SETTLED
        self._timer: asyncio.TimerHandle | None = None

    async def demands(
        self, *, namespace: str, conn_id: str | None, dag_id: str, pool: str, pool_slots: int
    ) -> dict[str, Demand]:
        """Return what a task takes, by what limits it. Raises `ConfigError` for an unreadable connection or option."""
        extras = await fetch_extras(conn_id)
        limits = {
            "this triggerer": self._limits["max_pods"],
            f"namespace {namespace!r}": self._limits["max_pods_per_namespace"],
            f"DAG {dag_id!r}": self._limits["max_pods_per_dag"],
            f"connection {conn_id!r}": extras.number("max_pods") or 0,
        }
        found = {scope: Demand(int(limit)) for scope, limit in limits.items() if limit > 0}
        if of_pool := self._pools.get(pool, self._pools.get("*", 0)):
            # A task that wants more than there is runs alone.
            found[f"pool {pool!r}"] = Demand(of_pool, min(pool_slots, of_pool))
        return found

    @cached_property
    def _limits(self) -> dict[str, int]:
        """The options, which are read once: that takes Airflow a quarter of a millisecond each."""
        return {
            "max_pods": settings.integer("max_pods"),
            "max_pods_per_namespace": settings.integer("max_pods_per_namespace"),
            "max_pods_per_dag": settings.integer("max_pods_per_dag"),
        }

    @cached_property
    def _pools(self) -> dict[str, int]:
        return settings.pools_of_triggerer()

    async def take(self, demands: Mapping[str, Demand], *, weight: int = 1, at_once: bool = False) -> Place:
        """Wait for places within all limits and take them; `at_once` for a pod that runs already."""
        if at_once:
            self._settled_at = self._loop.time() + SETTLING
            self._take(demands)
        else:
            await self._wait(demands, weight)
        return Place(self, demands)

    async def _wait(self, demands: Mapping[str, Demand], weight: int) -> None:
        waiting = _Waiting((-weight, next(self._numbers)), demands, asyncio.Event())
        bisect.insort(self._waiting, waiting)
        self._admit()
        try:
            if not waiting.admitted.is_set():
                self._say_why(demands)
            await waiting.admitted.wait()
        except asyncio.CancelledError:
            if waiting.admitted.is_set():
                self.leave(demands)
            else:
                self._waiting.remove(waiting)
                self._admit()  # others may have waited only for their turn
            raise

    def leave(self, demands: Mapping[str, Demand]) -> None:
        """Give places back."""
        self._taken.subtract({scope: demand.places for scope, demand in demands.items()})
        self._admit()

    def _take(self, demands: Mapping[str, Demand]) -> None:
        self._taken.update({scope: demand.places for scope, demand in demands.items()})

    def _admit(self) -> None:
        if not self._waiting or not self._is_settled():
            return
        remaining: list[_Waiting] = []
        reserved: set[str] = set()
        for waiting in self._waiting:
            # What has room for this task, but not for one before it, is that one's.
            full = {scope for scope, demand in waiting.demands.items() if self._is_full(scope, demand)}
            if full or reserved & waiting.demands.keys():
                reserved |= full
                remaining.append(waiting)
            else:
                self._take(waiting.demands)
                waiting.admitted.set()
        self._waiting = remaining

    def _is_settled(self) -> bool:
        now, at = self._loop.time(), min(self._settled_at, self._settled_at_last)
        if now < at and self._timer is None:
            # In an empty context: the timer must not log in the name of a task.
            self._timer = self._loop.call_later(at - now, self._admit_later, context=contextvars.Context())
        return now >= at

    def _admit_later(self) -> None:
        self._timer = None
        self._admit()

    def _is_full(self, scope: str, demand: Demand) -> bool:
        return self._taken[scope] + demand.places > demand.limit

    def _say_why(self, demands: Mapping[str, Demand]) -> None:
        full = next((scope for scope, demand in demands.items() if self._is_full(scope, demand)), None)
        if full is None:
            log.info("Waiting for a place: others come first, or pods that run already are being counted")
        else:
            log.info("Waiting for a place: %d of %d pods of %s run", self._taken[full], demands[full].limit, full)


@dataclass
class Place:
    """A place that is taken."""

    places: Places
    demands: Mapping[str, Demand]

    def leave(self) -> None:
        """Give it back, once."""
        self.places.leave(self.demands)
