"""Whether this process still has its triggers, as far as it can know.

A triggerer of which Airflow has not heard for a while loses its triggers to another one. One that was frozen meanwhile
(SIGSTOP, a paused container, a suspended machine) and thaws learns of that a few seconds later. So a triggerer holds a
lease on its triggers, as client-go's leaders do: each exchange with its supervisor renews it from the last heartbeat
on, and it lapses `duration` seconds after that. While it has lapsed, no line is shown, no callback is called, and
nothing is done about a pod, until enough exchanges have followed to know which triggers are left: the others are
cancelled by then.

A process that no supervisor gives triggers to, such as a worker, has a lease that does not lapse.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Callable

from kpo_async.compat import StrEnum
from kpo_async.kube.shared import PerLoop

RENEWALS = 4
"""How many exchanges renew a lease that has lapsed. The first may have been answered before the freeze, the second from
what the supervisor knew before it, and after the third, a second passes in which cancelled triggers end."""
PATIENCE = 60.0
"""Seconds after which a lapsed lease that nothing renews is given up. Without a supervisor no trigger can end anyway,
and an Airflow that makes its exchanges in another way than this library knows must not hold up every task."""

log = logging.getLogger(__name__)


class LeaseState(StrEnum):
    """What is known of this process's triggers."""

    UNLIMITED = "unlimited"
    """No supervisor has renewed the lease: there is none that could take triggers away."""
    HELD = "held"
    LAPSED = "lapsed"
    """Another triggerer may have them."""


def boot_time() -> float:
    """Return seconds since the machine started, those in which it was suspended among them where the kernel tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """This process's lease on its triggers. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = boot_time) -> None:
        self._clock = clock
        self._state = LeaseState.UNLIMITED
        self._duration = math.inf
        self._renewed_at = 0.0
        self._missing = 0
        """Renewals until a lapsed lease is held again."""
        self._renewed = asyncio.Event()
        self._giving_up: asyncio.TimerHandle | None = None

    @property
    def state(self) -> LeaseState:
        """The state now: a lapse shows as soon as it is looked for, before anything else runs after a freeze."""
        silence = self._clock() - self._renewed_at
        if self._state is LeaseState.HELD and silence > self._duration:
            self._lapse(silence)
        return self._state

    @property
    def holds(self) -> bool:
        return self.state is not LeaseState.LAPSED

    async def held(self) -> None:
        """Wait while the lease has lapsed. A trigger that has moved is cancelled here."""
        while not self.holds:
            await self._renewed.wait()

    def renew(self, duration: float, heartbeat: float = math.inf) -> None:
        """Note an exchange with the supervisor. Triggers cannot move for `duration` seconds after the last heartbeat.

        `heartbeat`: when that was sent, by this lease's clock; by default, the exchange counts as one.
        """
        state, now, self._duration = self.state, self._clock(), duration
        self._renewed_at = min(now, heartbeat)
        if state is LeaseState.UNLIMITED:
            self._state = LeaseState.HELD
        elif state is LeaseState.LAPSED and now - self._renewed_at <= duration:
            self._missing -= 1
            if not self._missing:
                self._go_on(LeaseState.HELD, "This triggerer knows again which triggers it has: their tasks go on")

    def _lapse(self, silence: float) -> None:
        self._state, self._missing = LeaseState.LAPSED, RENEWALS
        self._renewed.clear()
        loop = asyncio.get_running_loop()
        self._giving_up = loop.call_later(PATIENCE, self._give_up, context=contextvars.Context())
        _say(
            f"This triggerer was out of touch with Airflow for {silence:.0f} s, and another one may have its triggers: "
            "their tasks wait until that is known"
        )

    def _give_up(self) -> None:
        if self._missing == RENEWALS:
            self._go_on(LeaseState.UNLIMITED, f"Airflow was silent for {PATIENCE:.0f} s: the tasks of triggers go on")

    def _go_on(self, state: LeaseState, why: str) -> None:
        self._state = state
        self._renewed.set()
        if self._giving_up is not None:
            self._giving_up.cancel()
        _say(why)


def _say(text: str) -> None:
    """Log in an empty context, into the triggerer's own log instead of a task's."""
    contextvars.Context().run(log.warning, text)


_LEASES = PerLoop(Lease)


def lease() -> Lease:
    """Return the lease of the running loop."""
    return _LEASES.get()
