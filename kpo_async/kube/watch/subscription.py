"""The latest view of one pod, and its subscribers. Pure bookkeeping: no requests, no history.

A `PodEntry` holds the latest view of one uid. A new view replaces the last one, read or not: a slow subscriber misses
intermediate views, never the last one, and never holds up the others. A view is never older than an earlier one; GONE
and FINAL_STATE_UNKNOWN are final.
"""

from __future__ import annotations

import asyncio
from enum import Enum

import msgspec

from kpo_async.api_types import Pod
from kpo_async.exceptions import ApiError
from kpo_async.kube.watch.resource_version import is_older


class Presence(Enum):
    """Whether the pod exists, as far as is known."""

    UNKNOWN = "unknown"
    """Not looked up yet."""
    PRESENT = "present"
    GONE = "gone"
    """Deleted. The view holds its final state."""
    FINAL_STATE_UNKNOWN = "final state unknown"
    """Deleted while no watch was open (client-go's `DeletedFinalStateUnknown`). The view holds its last known state."""

    @property
    def final(self) -> bool:
        return self is Presence.GONE or self is Presence.FINAL_STATE_UNKNOWN


class View(msgspec.Struct, frozen=True):
    """One pod at one time. `problem`: why the view may be out of date; the informer keeps trying."""

    presence: Presence
    pod: Pod | None = None
    problem: ApiError | None = None

    @property
    def has_news(self) -> bool:
        """Whether anything is known: the pod's presence, or a problem."""
        return self.presence is not Presence.UNKNOWN or self.problem is not None


class PodEntry:
    """The latest view of the pod `uid`."""

    __slots__ = ("failure", "name", "poll_interval", "single_watch", "subscriptions", "uid", "view")

    def __init__(self, name: str, uid: str, poll_interval: float) -> None:
        self.name = name
        self.uid = uid
        self.poll_interval = poll_interval
        self.view = View(Presence.UNKNOWN)
        self.subscriptions: list[Subscription] = []
        self.single_watch: asyncio.Task[None] | None = None
        """The task that keeps this entry up to date while the shared watch does not show the pod."""
        self.failure: Exception | None = None

    def show(self, presence: Presence, pod: Pod | None, *, rewound: bool = False) -> None:
        """Set a newer state; older and equal ones are ignored. `rewound`: the server's versions have started over."""
        view = self.view
        if view.presence.final:
            return
        if pod is None:
            pod = view.pod
        elif view.pod is not None and not rewound:
            version, shown = pod.metadata.resource_version, view.pod.metadata.resource_version
            if is_older(version, shown) or (version == shown and presence is view.presence):
                return
        self._set(View(presence, pod, None if presence.final else view.problem))

    def report(self, problem: ApiError | None) -> None:
        """Set the problem that keeps the view from being updated, None once it is solved. Repetitions are ignored."""
        if not self.view.presence.final and not _same(problem, self.view.problem):
            self._set(View(self.view.presence, self.view.pod, problem))

    def fail(self, failure: Exception) -> None:
        """Make every `next` raise `failure` from now on: there will be no newer view."""
        self.failure = failure
        for subscription in self.subscriptions:
            subscription.wake()

    def _set(self, view: View) -> None:
        self.view = view
        for subscription in self.subscriptions:
            subscription.wake()


class Subscription:
    """One caller's subscription to a pod."""

    __slots__ = ("_returned", "_waiter", "entry")

    def __init__(self, entry: PodEntry) -> None:
        self.entry = entry
        self._returned: View | None = None
        self._waiter: asyncio.Future[None] | None = None
        entry.subscriptions.append(self)

    @property
    def view(self) -> View:
        """The latest view."""
        return self.entry.view

    async def next(self) -> View:
        """Wait for a view that is newer than the last one returned, and return it.

        The first call returns at once if anything is known. After a final view it never returns.
        """
        while (view := self.entry.view) is self._returned or not view.has_news:
            if self.entry.failure is not None:
                raise self.entry.failure
            if self._waiter is not None:
                raise RuntimeError(f"two callers wait for the next view of pod {self.entry.name}: subscribe twice")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._returned = view
        return view

    def wake(self) -> None:
        """Let a waiting `next` look at the entry again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _same(one: ApiError | None, other: ApiError | None) -> bool:
    if one is None or other is None:
        return one is other
    return (type(one), one.code, one.verb) == (type(other), other.code, other.verb)
