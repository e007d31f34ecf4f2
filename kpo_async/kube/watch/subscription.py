"""What one pod looks like now, and who wants to know. Pure bookkeeping: asks nobody, keeps no history.

A slot holds the latest view of one uid. A new view replaces the last one, seen or not: a slow subscriber misses states
in between, never the last one, and never holds up anybody. A view is never older than one shown before; GONE and
VANISHED are final.
"""

from __future__ import annotations

import asyncio
from enum import Enum

import msgspec

from kpo_async.api_types import Pod
from kpo_async.exceptions import ApiError
from kpo_async.kube.watch.resource_version import is_older


class Presence(Enum):
    """Whether the pod is there, as far as is known."""

    UNKNOWN = "not looked yet"
    PRESENT = "there"
    GONE = "deleted; the pod shown is its final state"
    VANISHED = "not there any more; what it was when it ended nobody saw"

    @property
    def final(self) -> bool:
        return self is Presence.GONE or self is Presence.VANISHED


class View(msgspec.Struct, frozen=True):
    """One pod at one time. `problem`: why the view may be getting old; it is being worked on."""

    presence: Presence
    pod: Pod | None = None
    problem: ApiError | None = None

    @property
    def telling(self) -> bool:
        """Whether there is anything to be told."""
        return self.presence is not Presence.UNKNOWN or self.problem is not None


class Slot:
    """The latest view of the pod `uid`."""

    __slots__ = ("alone", "failure", "name", "poll_interval", "subscriptions", "uid", "view")

    def __init__(self, name: str, uid: str, poll_interval: float) -> None:
        self.name = name
        self.uid = uid
        self.poll_interval = poll_interval
        self.view = View(Presence.UNKNOWN)
        self.subscriptions: list[Subscription] = []
        self.alone: asyncio.Task[None] | None = None
        """Follows this pod by itself, when the shared watch does not show it."""
        self.failure: Exception | None = None

    def show(self, presence: Presence, pod: Pod | None, *, rewound: bool = False) -> None:
        """Show a newer state; older and equal ones are ignored. `rewound`: versions do not compare with the past."""
        view = self.view
        if view.presence.final:
            return
        if pod is None:
            pod = view.pod
        elif view.pod is not None and not rewound:
            version, shown = pod.metadata.resource_version, view.pod.metadata.resource_version
            if is_older(version, shown) or (version == shown and presence is view.presence):
                return
        self._turn(View(presence, pod, None if presence.final else view.problem))

    def report(self, problem: ApiError | None) -> None:
        """Show what hinders us, or that it is over. The same hindrance again is no news."""
        if not self.view.presence.final and not _same(problem, self.view.problem):
            self._turn(View(self.view.presence, self.view.pod, problem))

    def fail(self, failure: Exception) -> None:
        """Let every `next` raise `failure` from now on: there will be no newer view."""
        self.failure = failure
        for subscription in self.subscriptions:
            subscription.wake()

    def _turn(self, view: View) -> None:
        self.view = view
        for subscription in self.subscriptions:
            subscription.wake()


class Subscription:
    """One caller's place at a slot."""

    __slots__ = ("_returned", "_waiter", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._returned: View | None = None
        self._waiter: asyncio.Future[None] | None = None
        slot.subscriptions.append(self)

    @property
    def view(self) -> View:
        """The latest view."""
        return self.slot.view

    async def next(self) -> View:
        """The latest view, as soon as it is newer than the last one returned.

        The first call returns at once if anything is known. After a final view there is no next one.
        """
        while (view := self.slot.view) is self._returned or not view.telling:
            if self.slot.failure is not None:
                raise self.slot.failure
            if self._waiter is not None:
                raise RuntimeError(f"two callers wait for the next view of pod {self.slot.name}: subscribe twice")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._returned = view
        return view

    def wake(self) -> None:
        """Let a waiting `next` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _same(one: ApiError | None, other: ApiError | None) -> bool:
    if one is None or other is None:
        return one is other
    return (type(one), one.code, one.verb) == (type(other), other.code, other.verb)
