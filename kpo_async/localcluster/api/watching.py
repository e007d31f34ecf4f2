"""WATCH: which events a watcher gets, as bytes ready for the wire (measured on 1.34).

A `Watch` is made synchronously, so its initial state and its subscription belong to the same instant.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.api import errors, listing, selectors
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.api.route import is_true
from kpo_async.localcluster.store.store import Change, EventType, Expired, Object, Selection, Store, Stored

BOOKMARK_PERIOD = 60.0
BOOKMARK_BEFORE_END = 2.0
SHORTEST_DEFAULT = 1800
"""Seconds that a watch without `timeoutSeconds` lasts at least; at most twice that."""


@dataclass(frozen=True)
class WatchOptions:
    """meta/v1 ListOptions of a WATCH."""

    matches: selectors.Matcher | None = None
    name: str | None = None
    version: str = ""
    bookmarks: bool = False
    initial_events: bool | None = None
    timeout: float = SHORTEST_DEFAULT

    @classmethod
    def parse(cls, resource: Resource, query: Mapping[str, str]) -> WatchOptions:
        """Raises Refusal (400, 422)."""
        matches, name = selectors.selection(
            resource.name, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        initial = is_true(query, "sendInitialEvents") if "sendInitialEvents" in query else None
        match = query.get("resourceVersionMatch", "")
        if initial is not None and match != "NotOlderThan":
            message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise errors.invalid_options("ListOptions", "resourceVersionMatch", message)
        if match and initial is None:
            message = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise errors.invalid_options("ListOptions", "resourceVersionMatch", message)
        seconds = listing.parse_int(query.get("timeoutSeconds", ""))
        timeout = seconds if seconds > 0 else SHORTEST_DEFAULT * (1 + random.random())
        bookmarks = is_true(query, "allowWatchBookmarks")
        return cls(matches, name, query.get("resourceVersion", ""), bookmarks, initial, timeout)


Render = Callable[[EventType, Stored, Change | None], bytes]
"""Makes the line of an event; the change is None for the initial state."""


def render_json(kind: EventType, stored: Stored, change: Change | None) -> bytes:
    """The usual form, encoded once for all watchers."""
    if change is not None:
        return change.frame(kind)
    return b'{"type":"' + kind.value.encode() + b'","object":' + stored.json + b"}\n"


class Watch:
    """One watch of a resource, from its first event to its end."""

    def __init__(
        self,
        store: Store,
        resource: Resource,
        namespace: str | None,
        options: WatchOptions,
        render: Render = render_json,
    ) -> None:
        """Raises Refusal (500) for a garbage version; one that is too old is told in the stream."""
        self._store = store
        self._resource = resource
        self._options = options
        self._render = render
        self._initial: list[Stored] = []
        self._sends_initial = False
        self._expired: Expired | None = None
        selection = Selection(namespace, options.name)
        version = listing.parse_version(options.version) if options.version else 0
        self._after = version
        """Nothing up to this version is told, not even by a watch that began in the future."""
        try:
            if version == 0 or options.initial_events:
                self._subscription = store.subscribe(resource.name, None, selection)
                if options.initial_events is not False:
                    self._sends_initial = True
                    self._initial = listing.current(store, resource.name, namespace, options.matches)
            else:
                self._subscription = store.subscribe(resource.name, version, selection)
        except Expired as error:
            self._subscription = store.subscribe(resource.name, None, selection)
            self._expired = error

    def expire(self) -> None:
        """Tell the client that its version has expired, and end."""
        self._expired = Expired(self._resource.name, 1, self._store.version)
        self._subscription.nudge()

    def stop(self) -> None:
        """End the watch as a server does that shuts down."""
        self._subscription.close()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The lines to send, several at a time when several are due; ends with the watch's timeout."""
        try:
            if self._expired is None:
                async for frame in self._tell_all():
                    yield frame
            if self._expired is not None:
                yield error_line(errors.expired(str(self._expired)))
        finally:
            self._subscription.close()

    async def _tell_all(self) -> AsyncIterator[bytes]:
        if self._initial:
            yield b"".join(self._render(EventType.ADDED, stored, None) for stored in self._initial)
            self._initial = []
        if self._sends_initial and self._options.bookmarks:
            yield self._bookmark(initial_end=True)
        async for frame in self._live():
            yield frame

    async def _live(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._options.timeout
        bookmark_at = self._next_bookmark(loop.time(), end)
        while not self._subscription.closed and self._expired is None and loop.time() < end:
            alarm = loop.call_at(min(end, bookmark_at), self._subscription.nudge)
            try:
                changes = await self._subscription.batch()
            finally:
                alarm.cancel()
            if frame := b"".join(filter(None, map(self._tell, changes))):
                yield frame
            if loop.time() >= bookmark_at and loop.time() < end:
                bookmark_at = self._next_bookmark(loop.time(), end)
                yield self._bookmark()

    def _next_bookmark(self, now: float, end: float) -> float:
        """About every minute, and shortly before the end; never, unless they were asked for."""
        if not self._options.bookmarks:
            return end
        last = end - BOOKMARK_BEFORE_END
        return last if now < last <= now + BOOKMARK_PERIOD else now + BOOKMARK_PERIOD * random.uniform(0.99, 1.01)

    def _tell(self, change: Change) -> bytes | None:
        """The line of a change, or None when the watcher's selection never saw the object."""
        if change.version <= self._after:
            return None
        matches = self._options.matches
        if matches is None:
            return self._render(change.type, change.stored, change)
        before = change.previous is not None and matches(change.previous)
        if change.type is EventType.DELETED:
            return self._render(EventType.DELETED, change.stored, change) if before else None
        after = matches(change.object)
        if not before and not after:
            return None
        if before and not after:
            return self._render(EventType.DELETED, change.left, change)
        return self._render(EventType.MODIFIED if before else EventType.ADDED, change.stored, change)

    def _bookmark(self, *, initial_end: bool = False) -> bytes:
        # Nothing is pending when a bookmark is due, so the store's version is the watcher's.
        metadata: Object = {"resourceVersion": str(self._store.version)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Object = {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}
        if self._resource.name == "pods":
            obj |= {"spec": {"containers": None}, "status": {}}
        return _line("BOOKMARK", obj)


def error_line(refusal: errors.Refusal) -> bytes:
    """The ERROR event that ends a watch."""
    return _line("ERROR", refusal.status())


def _line(kind: str, obj: Any) -> bytes:
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"
