"""The versioned object store: what etcd and the watch cache are to a real cluster.

Everything is synchronous and belongs to one event loop: a read and a write without an `await` between are atomic.
**Objects that are handed out are shared: never change one.** Build a new dict (`{**pod, "status": {...}}`) and pass it
to `update`. Each object is encoded to JSON at most once, for all readers.
The store validates nothing and does not distinguish kinds; the API server does both.
"""

from __future__ import annotations

import asyncio
import bisect
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object, WatchEventType

HISTORY_LIMIT = 8192
"""Events of one resource that are kept for watches that resume."""

BACKLOG_LIMIT = 50_000
"""Events that a watch may lag behind before it is closed, as a real server closes a slow watch."""

encode = msgspec.json.Encoder().encode


class ObjectNotFound(Exception):
    """The store has no such object."""

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(f'{resource} "{name}" not found')


class ObjectExists(Exception):
    """An object of that name is stored already."""

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(f'{resource} "{name}" already exists')


class VersionExpired(Exception):
    """Some of the events after the requested version have been discarded."""

    def __init__(self, version: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {version} ({oldest})")


class StoredObject:
    """An object at one version, and its JSON."""

    __slots__ = ("_json", "object", "version")

    def __init__(self, obj: Object, version: int) -> None:
        self.object = obj
        self.version = version
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The object's JSON, encoded on first use."""
        if self._json is None:
            self._json = encode(self.object)
        return self._json

    def at(self, version: int) -> StoredObject:
        """Return the same object with another resourceVersion."""
        metadata = {**self.object["metadata"], "resourceVersion": str(version)}
        return StoredObject({**self.object, "metadata": metadata}, version)


class StoreEvent:
    """One write. `previous` is the object before it (None for ADDED); a DELETED event holds the object's last state."""

    __slots__ = ("_frames", "previous_stored", "stored", "type")

    def __init__(self, event_type: WatchEventType, stored: StoredObject, previous: StoredObject | None) -> None:
        self.type = event_type
        self.stored = stored
        self.previous_stored = previous
        self._frames: dict[WatchEventType, bytes] = {}

    @property
    def object(self) -> Object:
        """The object after the write."""
        return self.stored.object

    @property
    def previous(self) -> Object | None:
        """The object before the write."""
        return self.previous_stored.object if self.previous_stored else None

    @property
    def version(self) -> int:
        """The version of the write."""
        return self.stored.version

    @property
    def left(self) -> StoredObject:
        """What a watch shows of an object that no longer matches its selector: the previous state, at this version."""
        return self.previous_stored.at(self.version) if self.previous_stored else self.stored

    def frame(self, event_type: WatchEventType) -> bytes:
        """Return the line of a watch that shows this write as an event of a type; encoded once for all watches."""
        line = self._frames.get(event_type)
        if line is None:
            leaves = event_type is WatchEventType.DELETED and self.type is not WatchEventType.DELETED
            line = self._frames[event_type] = frame(event_type, self.left if leaves else self.stored)
        return line


def frame(event_type: WatchEventType, stored: StoredObject) -> bytes:
    """Return the line of a watch for an event."""
    return b'{"type":"' + event_type.value.encode() + b'","object":' + stored.json + b"}\n"


@dataclass(frozen=True)
class WatchFilter:
    """Which objects of a resource a watch covers; None means all."""

    namespace: str | None = None
    name: str | None = None

    def covers(self, namespace: str, name: str) -> bool:
        """Whether the object of that name is covered."""
        return self.namespace in (None, namespace) and self.name in (None, name)


EVERYTHING = WatchFilter()


class StoreWatch:
    """The events of one resource as an async iterator; ends by `close`, or when its reader lags too far behind."""

    def __init__(self, unregister: Callable[[StoreWatch], None]) -> None:
        self._pending: deque[StoreEvent] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._unregister = unregister
        self.closed = False

    def deliver(self, event: StoreEvent) -> None:
        """Queue an event. Called by the store only."""
        if len(self._pending) >= BACKLOG_LIMIT:
            self.close()
            return
        self._pending.append(event)
        self.wake()

    def wake(self) -> None:
        """Make a `batch` that waits return what is queued, even if that is nothing."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def batch(self) -> list[StoreEvent]:
        """Wait for an event and return all that are queued; an empty list after `wake` or `close`."""
        if not self._pending and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events = list(self._pending)
        self._pending.clear()
        return events

    def close(self) -> None:
        """Accept no further events; queued ones can still be read."""
        if not self.closed:
            self.closed = True
            self._unregister(self)
            self.wake()

    async def __aiter__(self) -> AsyncIterator[StoreEvent]:
        try:
            while not self.closed or self._pending:
                for event in await self.batch():
                    yield event
        finally:
            self.close()


class _ResourceTable:
    """One resource: its objects, their history and its watches."""

    def __init__(self, oldest: int) -> None:
        self.objects: dict[tuple[str, str], StoredObject] = {}
        self.history: list[StoreEvent] = []
        self.oldest = oldest
        """The oldest version from which a watch can resume."""
        self.watches: defaultdict[WatchFilter, list[StoreWatch]] = defaultdict(list)

    def publish(self, event: StoreEvent, namespace: str, name: str) -> None:
        self.history.append(event)
        if len(self.history) > HISTORY_LIMIT:
            self.discard(HISTORY_LIMIT // 4)
        for covering in (
            EVERYTHING,
            WatchFilter(namespace),
            WatchFilter(namespace, name),
            WatchFilter(None, name),
        ):
            for watch in tuple(self.watches.get(covering, ())):
                watch.deliver(event)

    def discard(self, count: int) -> None:
        """Remove the oldest events."""
        self.oldest = max(self.oldest, self.history[count - 1].version)
        del self.history[:count]

    def since(self, version: int) -> list[StoreEvent]:
        return self.history[bisect.bisect_right(self.history, version, key=lambda event: event.version) :]


class Store:
    """All objects of a cluster, under one counter of versions."""

    def __init__(self, *, clock: Callable[[], int] = times.now) -> None:
        """`clock` returns nanoseconds since the epoch; everything in the cluster that writes a time uses it."""
        self.clock = clock
        self.version = 1
        self._compacted = 0
        self._tables: defaultdict[str, _ResourceTable] = defaultdict(lambda: _ResourceTable(self._compacted))

    def timestamp(self) -> str:
        """Return the current time as metadata and status have it."""
        return times.to_seconds(self.clock())

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object; a cluster-scoped one has the namespace "". Raises ObjectNotFound."""
        return self.stored(resource, namespace, name).object

    def stored(self, resource: str, namespace: str, name: str) -> StoredObject:
        """Return an object with its version and JSON. Raises ObjectNotFound."""
        found = self._tables[resource].objects.get((namespace, name))
        if found is None:
            raise ObjectNotFound(resource, name)
        return found

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """Return all objects of a namespace, or of the cluster, in no particular order."""
        return [stored.object for stored in self.scan(resource, namespace)]

    def scan(self, resource: str, namespace: str | None = None) -> Iterator[StoredObject]:
        """Like `list`, with versions and JSON."""
        for (where, _), stored in self._tables[resource].objects.items():
            if namespace is None or where == namespace:
                yield stored

    def count(self, resource: str) -> int:
        """Return the number of objects of a resource."""
        return len(self._tables[resource].objects)

    def create(self, resource: str, obj: Object) -> Object:
        """Store a new object and return it with resourceVersion, and uid and creationTimestamp if it had none.

        Raises ObjectExists.
        """
        namespace, name = self._key(obj)
        table = self._tables[resource]
        if (namespace, name) in table.objects:
            raise ObjectExists(resource, name)
        self.version += 1
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": self.timestamp(), **obj["metadata"]}
        metadata["resourceVersion"] = str(self.version)
        stored = StoredObject({**obj, "metadata": metadata}, self.version)
        table.objects[namespace, name] = stored
        table.publish(StoreEvent(WatchEventType.ADDED, stored, None), namespace, name)
        return stored.object

    def update(self, resource: str, obj: Object) -> Object:
        """Replace an object and return it. Equal content writes nothing, as on a real server.

        Raises ObjectNotFound.
        """
        namespace, name = self._key(obj)
        table = self._tables[resource]
        current = self.stored(resource, namespace, name)
        metadata = {**obj["metadata"], "resourceVersion": current.object["metadata"]["resourceVersion"]}
        if {**obj, "metadata": metadata} == current.object:
            return current.object
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        stored = StoredObject({**obj, "metadata": metadata}, self.version)
        table.objects[namespace, name] = stored
        table.publish(StoreEvent(WatchEventType.MODIFIED, stored, current), namespace, name)
        return stored.object

    def remove(self, resource: str, namespace: str, name: str) -> Object:
        """Remove an object and return its last state, at the version of the removal. Raises ObjectNotFound."""
        current = self.stored(resource, namespace, name)
        table = self._tables[resource]
        self.version += 1
        last = current.at(self.version)
        del table.objects[namespace, name]
        table.publish(StoreEvent(WatchEventType.DELETED, last, current), namespace, name)
        return last.object

    def watch(
        self, resource: str, from_version: int | None = None, watch_filter: WatchFilter = EVERYTHING
    ) -> StoreWatch:
        """Return all events after `from_version` (None: from now on). Registered at once, so that none is missed.

        Raises VersionExpired if events after that version have been discarded.
        """
        table = self._tables[resource]
        if from_version is not None and from_version < table.oldest:
            raise VersionExpired(from_version, table.oldest)
        watches = table.watches[watch_filter]
        watch = StoreWatch(lambda closed: self._unregister(resource, watch_filter, closed))
        watches.append(watch)
        for event in table.since(self.version if from_version is None else from_version):
            if watch_filter.covers(*self._key(event.object)):
                watch.deliver(event)
        return watch

    def can_resume(self, resource: str, version: int) -> bool:
        """Whether all events after a version are still kept."""
        return version >= self._tables[resource].oldest

    def history(self, resource: str, version: int) -> Sequence[StoreEvent]:
        """Return the events after a version, oldest first. Raises VersionExpired if some have been discarded."""
        table = self._tables[resource]
        if version < table.oldest:
            raise VersionExpired(version, table.oldest)
        return table.since(version)

    def _unregister(self, resource: str, watch_filter: WatchFilter, watch: StoreWatch) -> None:
        watches = self._tables[resource].watches
        watches[watch_filter].remove(watch)
        if not watches[watch_filter]:
            del watches[watch_filter]

    def compact(self) -> None:
        """Discard all history: resuming from any earlier version raises VersionExpired."""
        self._compacted = self.version
        for table in self._tables.values():
            table.history.clear()
            table.oldest = self.version

    def renumber(self, by: int) -> None:
        """Shift all versions, as after a restore from a backup. History is discarded; watches get no event."""
        self.version = max(1, self.version + by)
        for table in self._tables.values():
            table.objects = {key: stored.at(max(1, stored.version + by)) for key, stored in table.objects.items()}
        self.compact()

    @staticmethod
    def _key(obj: Object) -> tuple[str, str]:
        metadata = obj["metadata"]
        return metadata.get("namespace", ""), metadata["name"]
