"""WATCH: which events a watch sends, and their form on the wire (measured on 1.34).

A `Watch` is created synchronously, so its initial state and its subscription belong to the same instant.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kpo_async.localcluster.api import errors, listing, selectors
from kpo_async.localcluster.api.request_info import is_true
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.store.objects import Object, WatchEventType
from kpo_async.localcluster.store.store import (
    Store,
    StoredObject,
    StoreEvent,
    VersionExpired,
    WatchFilter,
    frame,
)

BOOKMARK_PERIOD = 60.0
BOOKMARK_BEFORE_END = 2.0
MIN_REQUEST_TIMEOUT = 1800
"""Seconds that a watch without `timeoutSeconds` lasts at least; it lasts at most twice that."""


@dataclass(frozen=True)
class WatchOptions:
    """meta/v1 ListOptions of a WATCH."""

    matches: selectors.Matcher | None = None
    name: str | None = None
    version: str = ""
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout: float = math.inf
    """Seconds until the server ends the watch."""

    @classmethod
    def parse(cls, resource: Resource, query: Mapping[str, str]) -> WatchOptions:
        """Read the options from a query. Raises StatusError (400, 422)."""
        matches, name = selectors.parse(resource.name, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        initial = is_true(query, "sendInitialEvents") if "sendInitialEvents" in query else None
        match = query.get("resourceVersionMatch", "")
        if initial is not None and match != "NotOlderThan":
            message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise errors.invalid_options("ListOptions", "resourceVersionMatch", message)
        if match and initial is None:
            message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise errors.invalid_options("ListOptions", "resourceVersionMatch", message)
        seconds = listing.parse_int(query.get("timeoutSeconds", ""))
        timeout = seconds if seconds > 0 else MIN_REQUEST_TIMEOUT * (1 + random.random())
        bookmarks = is_true(query, "allowWatchBookmarks")
        return cls(matches, name, query.get("resourceVersion", ""), bookmarks, initial, timeout)

    @classmethod
    def of(cls, resource: Resource, field_selector: str) -> WatchOptions:
        """Options for a watch from the current state, without an end. Raises StatusError (400)."""
        matches, name = selectors.parse(resource.name, "", field_selector)
        return cls(matches, name)


class WatchEvent(NamedTuple):
    """One event of a watch."""

    type: WatchEventType
    stored: StoredObject
    """The object; for a BOOKMARK its version only, for an ERROR a `Status`."""
    cause: StoreEvent | None = None
    """The write behind the event; None for the initial state, bookmarks and errors."""

    @property
    def object(self) -> Object:
        """The event's object."""
        return self.stored.object


Renderer = Callable[[WatchEvent], bytes]
"""Encodes an event as a line."""


def render_json(event: WatchEvent) -> bytes:
    """The usual form; a write is encoded once for all watches."""
    return event.cause.frame(event.type) if event.cause is not None else frame(event.type, event.stored)


class Watch:
    """One watch of a resource, from its first event to its end."""

    def __init__(self, store: Store, resource: Resource, namespace: str | None, options: WatchOptions) -> None:
        """Raise StatusError (500) for a malformed version; one that is too old becomes an ERROR event."""
        self._store = store
        self._resource = resource
        self._options = options
        self._initial: list[StoredObject] = []
        self._sends_initial = False
        self._expired: VersionExpired | None = None
        watch_filter = WatchFilter(namespace, options.name)
        version = listing.parse_version(options.version) if options.version else 0
        self._after = version
        """Events up to this version are not sent, not even by a watch whose version was in the future."""
        try:
            if version == 0 or options.initial_events:
                self._events = store.watch(resource.name, None, watch_filter)
                if options.initial_events is not False:
                    self._sends_initial = True
                    self._initial = listing.current(store, resource.name, namespace, options.matches)
            else:
                self._events = store.watch(resource.name, version, watch_filter)
        except VersionExpired as error:
            self._events = store.watch(resource.name, None, watch_filter)
            self._expired = error

    def expire(self) -> None:
        """End the watch with the ERROR that its version has expired."""
        self._expired = VersionExpired(1, self._store.version)
        self._events.wake()

    def stop(self) -> None:
        """End the watch as a server does that shuts down."""
        self._events.close()

    async def frames(self, render: Renderer = render_json) -> AsyncGenerator[bytes, None]:
        """Yield the lines to send, several at a time when several are due, until the watch ends."""
        try:
            async for events in self.batches():
                yield b"".join(map(render, events))
        finally:
            self._events.close()

    async def batches(self) -> AsyncGenerator[list[WatchEvent], None]:
        """Yield the events, several at a time when several are due, until the watch ends."""
        try:
            if self._expired is None:
                if self._initial:
                    yield [WatchEvent(WatchEventType.ADDED, stored) for stored in self._initial]
                    self._initial = []
                if self._sends_initial and self._options.bookmarks:
                    yield [self._bookmark(initial_end=True)]
                async for events in self._live():
                    yield events
            if self._expired is not None:
                yield [error_event(errors.expired(str(self._expired)))]
        finally:
            self._events.close()

    async def _live(self) -> AsyncGenerator[list[WatchEvent], None]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.timeout
        bookmark_at = self._next_bookmark(loop.time(), end)
        while not self._events.closed and self._expired is None and loop.time() < end:
            if events := [*filter(None, map(self._event, await self._writes(min(end, bookmark_at))))]:
                yield events
            if loop.time() >= bookmark_at and loop.time() < end:
                bookmark_at = self._next_bookmark(loop.time(), end)
                yield [self._bookmark()]

    async def _writes(self, until: float) -> list[StoreEvent]:
        """Wait for writes, but no longer than until a time of the loop."""
        if until == math.inf:
            return await self._events.batch()
        alarm = asyncio.get_running_loop().call_at(until, self._events.wake)
        try:
            return await self._events.batch()
        finally:
            alarm.cancel()

    def _next_bookmark(self, now: float, end: float) -> float:
        """About every minute, and shortly before the end; never unless the client asked for bookmarks."""
        if not self._options.bookmarks:
            return end
        last = end - BOOKMARK_BEFORE_END
        return last if now < last <= now + BOOKMARK_PERIOD else now + BOOKMARK_PERIOD * random.uniform(0.99, 1.01)

    def _event(self, write: StoreEvent) -> WatchEvent | None:
        """The event of a write, or None when the object neither matches the selector nor did before."""
        if write.version <= self._after:
            return None
        matches = self._options.matches
        if matches is None:
            return WatchEvent(write.type, write.stored, write)
        before = write.previous is not None and matches(write.previous)
        if write.type is WatchEventType.DELETED:
            return WatchEvent(WatchEventType.DELETED, write.stored, write) if before else None
        after = matches(write.object)
        if not before and not after:
            return None
        if before and not after:
            return WatchEvent(WatchEventType.DELETED, write.left, write)
        return WatchEvent(WatchEventType.MODIFIED if before else WatchEventType.ADDED, write.stored, write)

    def _bookmark(self, *, initial_end: bool = False) -> WatchEvent:
        # No write is pending when a bookmark is due, so the store's version is the watch's.
        metadata: Object = {"resourceVersion": str(self._store.version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Object = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        if self._resource.name == "pods":
            obj |= {"spec": {"containers": None}, "status": {}}
        return WatchEvent(WatchEventType.BOOKMARK, StoredObject(obj, self._store.version))


def error_event(error: errors.StatusError) -> WatchEvent:
    """Return the ERROR event that ends a watch."""
    return WatchEvent(WatchEventType.ERROR, StoredObject(error.status(), 0))
