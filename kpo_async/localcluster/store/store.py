"""The versioned object store: what etcd and the watch cache are to a real cluster.

Everything is synchronous and belongs to one event loop: a read and a write without an `await` between are atomic.
Objects are plain dicts with Kubernetes' camelCase keys. **What is handed out is shared: never change it**, build a new
dict (`{**pod, "status": {...}}`) and `update` with that. Each object is encoded to JSON at most once, for everybody.
It validates nothing and knows no pod from a secret; that is the server's work.
"""

from __future__ import annotations

import asyncio
import bisect
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from kpo_async.localcluster.store import times

Object = dict[str, Any]
"""A Kubernetes object as it is on the wire."""

HISTORY_LIMIT = 8192
"""Changes of one resource that are remembered for watches that resume."""

BACKLOG_LIMIT = 50_000
"""Changes a subscriber may lag behind before it is cut off, as a real server cuts off a slow watcher."""

encode = msgspec.json.Encoder().encode


class EventType(str, Enum):
    """What happened to an object, in the words of a watch."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class StoreError(Exception):
    """Base of what the store refuses."""

    def __init__(self, resource: str, name: str, message: str) -> None:
        self.resource = resource
        self.name = name
        super().__init__(message)


class NotFound(StoreError):
    """There is no such object."""

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(resource, name, f'{resource} "{name}" not found')


class AlreadyExists(StoreError):
    """The name is taken."""

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(resource, name, f'{resource} "{name}" already exists')


class Conflict(StoreError):
    """The object is no longer at the version that the writer saw."""

    def __init__(self, resource: str, name: str) -> None:
        super().__init__(
            resource,
            name,
            f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
            "please apply your changes to the latest version and try again",
        )


class Expired(StoreError):
    """The changes after the wanted version are no longer known."""

    def __init__(self, resource: str, version: int, oldest: int) -> None:
        self.version = version
        self.oldest = oldest
        super().__init__(resource, "", f"too old resource version: {version} ({oldest})")


class Stored:
    """An object at one version, and its JSON."""

    __slots__ = ("_json", "object", "version")

    def __init__(self, obj: Object, version: int) -> None:
        self.object = obj
        self.version = version
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The object's JSON, made when first asked for."""
        if self._json is None:
            self._json = encode(self.object)
        return self._json

    def at(self, version: int) -> Stored:
        """The same object, claiming another version."""
        metadata = {**self.object["metadata"], "resourceVersion": str(version)}
        return Stored({**self.object, "metadata": metadata}, version)


class Change:
    """One write. `previous` is what was there before it (None when ADDED); a DELETED's `object` is the last state."""

    __slots__ = ("_frames", "previous_stored", "stored", "type")

    def __init__(self, kind: EventType, stored: Stored, previous: Stored | None) -> None:
        self.type = kind
        self.stored = stored
        self.previous_stored = previous
        self._frames: dict[EventType, bytes] = {}

    @property
    def object(self) -> Object:
        return self.stored.object

    @property
    def previous(self) -> Object | None:
        return self.previous_stored.object if self.previous_stored else None

    @property
    def version(self) -> int:
        return self.stored.version

    @property
    def left(self) -> Stored:
        """How an object that leaves a selection is told: DELETED, with its former state at the new version."""
        return self.previous_stored.at(self.version) if self.previous_stored else self.stored

    def frame(self, kind: EventType) -> bytes:
        """The watch line that tells this change as a `kind` event; made once for all watchers."""
        line = self._frames.get(kind)
        if line is None:
            leaves = kind is EventType.DELETED and self.type is not EventType.DELETED
            stored = self.left if leaves else self.stored
            line = b'{"type":"' + kind.value.encode() + b'","object":' + stored.json + b"}\n"
            self._frames[kind] = line
        return line


@dataclass(frozen=True)
class Selection:
    """Which objects of a resource a subscriber hears of; None means all."""

    namespace: str | None = None
    name: str | None = None

    def covers(self, namespace: str, name: str) -> bool:
        return self.namespace in (None, namespace) and self.name in (None, name)


EVERYTHING = Selection()


class Subscription:
    """The changes of one resource as an async iterator; ends by `close`, or when its reader lags too far behind."""

    def __init__(self, close: Callable[[Subscription], None]) -> None:
        self._pending: deque[Change] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._unregister = close
        self.closed = False

    def push(self, change: Change) -> None:
        """Called by the store only."""
        if len(self._pending) >= BACKLOG_LIMIT:
            self.close()
            return
        self._pending.append(change)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def nudge(self) -> None:
        """Let a waiting `batch` return what there is, be it nothing."""
        self._wake()

    async def batch(self) -> list[Change]:
        """All changes that are waiting, after waiting for the first; empty when nudged or closed."""
        if not self._pending and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        changes = list(self._pending)
        self._pending.clear()
        return changes

    def close(self) -> None:
        """No further changes; what is waiting can still be read."""
        if not self.closed:
            self.closed = True
            self._unregister(self)
            self._wake()

    async def __aiter__(self) -> AsyncIterator[Change]:
        try:
            while not self.closed or self._pending:
                for change in await self.batch():
                    yield change
        finally:
            self.close()


class _Table:
    """One resource: its objects, its history, its subscribers."""

    def __init__(self, oldest: int) -> None:
        self.objects: dict[tuple[str, str], Stored] = {}
        self.history: list[Change] = []
        self.oldest = oldest
        self.subscribers: defaultdict[Selection, list[Subscription]] = defaultdict(list)

    def publish(self, change: Change, namespace: str, name: str) -> None:
        self.history.append(change)
        if len(self.history) > HISTORY_LIMIT:
            self.forget(HISTORY_LIMIT // 4)
        for selection in (
            EVERYTHING,
            Selection(namespace),
            Selection(namespace, name),
            Selection(None, name),
        ):
            for subscription in tuple(self.subscribers.get(selection, ())):
                subscription.push(change)

    def forget(self, count: int) -> None:
        self.oldest = max(self.oldest, self.history[count - 1].version)
        del self.history[:count]

    def since(self, version: int) -> list[Change]:
        return self.history[bisect.bisect_right(self.history, version, key=lambda change: change.version) :]


class Store:
    """All objects of a cluster under one counter of versions."""

    def __init__(self, *, clock: Callable[[], int] = times.now) -> None:
        """`clock` tells nanoseconds since the epoch; everything in the cluster that stamps a time asks it."""
        self.clock = clock
        self.version = 1
        self._compacted = 0
        self._tables: defaultdict[str, _Table] = defaultdict(lambda: _Table(self._compacted))

    def timestamp(self) -> str:
        """The present as Kubernetes writes it in metadata and status."""
        return times.to_seconds(self.clock())

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """The object; cluster-scoped ones have the namespace "". Raises NotFound."""
        return self.stored(resource, namespace, name).object

    def stored(self, resource: str, namespace: str, name: str) -> Stored:
        """The object with its version and JSON. Raises NotFound."""
        found = self._tables[resource].objects.get((namespace, name))
        if found is None:
            raise NotFound(resource, name)
        return found

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """All objects of a namespace, or of the cluster, in no particular order."""
        return [stored.object for stored in self.scan(resource, namespace)]

    def scan(self, resource: str, namespace: str | None = None) -> Iterator[Stored]:
        """Like `list`, with versions and JSON."""
        for (where, _), stored in self._tables[resource].objects.items():
            if namespace is None or where == namespace:
                yield stored

    def count(self, resource: str) -> int:
        """How many objects of a resource there are."""
        return len(self._tables[resource].objects)

    def create(self, resource: str, obj: Object) -> Object:
        """Store a new object and return it with resourceVersion, and uid and creationTimestamp if it had none.

        Raises AlreadyExists.
        """
        namespace, name = self._key(obj)
        table = self._tables[resource]
        if (namespace, name) in table.objects:
            raise AlreadyExists(resource, name)
        self.version += 1
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": self.timestamp(), **obj["metadata"]}
        metadata["resourceVersion"] = str(self.version)
        stored = Stored({**obj, "metadata": metadata}, self.version)
        table.objects[namespace, name] = stored
        table.publish(Change(EventType.ADDED, stored, None), namespace, name)
        return stored.object

    def update(self, resource: str, obj: Object, *, if_version: str | None = None) -> Object:
        """Replace an object and return it. Equal content writes nothing, as on a real server.

        Raises NotFound, and Conflict when `if_version` is given and is not the stored one.
        """
        namespace, name = self._key(obj)
        table = self._tables[resource]
        current = self.stored(resource, namespace, name)
        if if_version is not None and if_version != current.object["metadata"]["resourceVersion"]:
            raise Conflict(resource, name)
        metadata = {**obj["metadata"], "resourceVersion": current.object["metadata"]["resourceVersion"]}
        if {**obj, "metadata": metadata} == current.object:
            return current.object
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        stored = Stored({**obj, "metadata": metadata}, self.version)
        table.objects[namespace, name] = stored
        table.publish(Change(EventType.MODIFIED, stored, current), namespace, name)
        return stored.object

    def remove(self, resource: str, namespace: str, name: str) -> Object:
        """Take an object away and return its last state at the version of the removal. Raises NotFound."""
        current = self.stored(resource, namespace, name)
        table = self._tables[resource]
        self.version += 1
        last = current.at(self.version)
        del table.objects[namespace, name]
        table.publish(Change(EventType.DELETED, last, current), namespace, name)
        return last.object

    def subscribe(
        self, resource: str, from_version: int | None = None, selection: Selection = Selection()
    ) -> Subscription:
        """All changes after `from_version` (None: from now on). Registered at once, so no change can be missed.

        Raises Expired if changes after that version are already forgotten.
        """
        table = self._tables[resource]
        if from_version is not None and from_version < table.oldest:
            raise Expired(resource, from_version, table.oldest)
        subscribers = table.subscribers[selection]
        subscription = Subscription(lambda gone: self._unsubscribe(resource, selection, gone))
        subscribers.append(subscription)
        for change in table.since(self.version if from_version is None else from_version):
            metadata = change.object["metadata"]
            if selection.namespace in (None, metadata.get("namespace", "")) and selection.name in (
                None,
                metadata["name"],
            ):
                subscription.push(change)
        return subscription

    def remembers(self, resource: str, version: int) -> bool:
        """Whether all changes after a version are still known."""
        return version >= self._tables[resource].oldest

    def history(self, resource: str, version: int) -> Sequence[Change]:
        """The changes after a version, oldest first. Raises Expired if some are already forgotten."""
        table = self._tables[resource]
        if version < table.oldest:
            raise Expired(resource, version, table.oldest)
        return table.since(version)

    def _unsubscribe(self, resource: str, selection: Selection, subscription: Subscription) -> None:
        subscribers = self._tables[resource].subscribers
        subscribers[selection].remove(subscription)
        if not subscribers[selection]:
            del subscribers[selection]

    def compact(self) -> None:
        """Forget all history: resuming from any version before the present one is Expired."""
        self._compacted = self.version
        for table in self._tables.values():
            table.history.clear()
            table.oldest = self.version

    def renumber(self, by: int) -> None:
        """Shift all versions, as after a restore of an old backup. History is forgotten; subscribers hear nothing."""
        self.version = max(1, self.version + by)
        for table in self._tables.values():
            table.objects = {key: stored.at(max(1, stored.version + by)) for key, stored in table.objects.items()}
        self.compact()

    @staticmethod
    def _key(obj: Object) -> tuple[str, str]:
        metadata = obj["metadata"]
        return metadata.get("namespace", ""), metadata["name"]
