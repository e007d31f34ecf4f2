"""The pods of a selection as a stream of five events that never ends: the current pods, then their changes.

    Init            a sync begins: the whole selection follows
    InitApply(pod)  one pod of it
    InitDone        the sync is complete: swap it in
    Apply(pod)      a pod was added or changed
    Delete(pod)     a pod left the selection: deleted, or its labels changed

This module alone handles 410, bookmarks, stalls, cut lines, throttling and backoff. Between two `Init` the events of
one pod come in order. A dead connection, a restarted or replaced API server and a forbidden verb all lead to another
attempt; a watcher stops only when its caller does. It stores no pods and knows no subscribers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from enum import Enum
from typing import TypeVar
from weakref import WeakSet

import msgspec

from kpo_async.api_types import Pod
from kpo_async.compat import timeout
from kpo_async.exceptions import ApiError, ExpiredError, InvalidError, UnreachableError
from kpo_async.kube.client import Client
from kpo_async.kube.errors import Action
from kpo_async.kube.retry import ReconnectBackoff
from kpo_async.kube.watch.decode import EventType, LineSplitter, PodListDecoder, WatchLine, decode_line, malformed
from kpo_async.kube.watch.events import Apply, Delete, Init, InitApply, InitDone, WatchEvent
from kpo_async.kube.watch.resource_version import is_older
from kpo_async.metrics import WATCH_EVENTS, WATCH_RECONNECTS, WATCH_RELISTS, count

STALL = 70.0
"""Seconds without a byte until a connection counts as dead. Bookmarks come every 60 s."""
MARKER_STALL = 15.0
"""The same before the initial events have ended: the server has those at hand."""
SHORT_WATCH = 1.0
"""Seconds. A watch that ends sooner without having delivered anything has failed."""
PAGE = 500
"""Pods per page of a LIST at `MOST_RECENT`. From its cache an API server returns the whole list."""
TIMEOUTS = (300, 600)
"""Range of a watch's `timeoutSeconds`. Random, so that watchers do not all reconnect at once to the same API server."""
RELIST_PERIOD = 1800.0
"""Relist at least this often (seconds), as a safety net against lost events."""

_no_watch_list: WeakSet[Client] = WeakSet()
"""Clients of servers that refused `sendInitialEvents`, ignored it, or were silent about it."""


class State(Enum):
    """The next request, and where its end leads."""

    WATCH_LIST = "watch-list"
    """A watch that begins with the current pods (KEP-3157). Their end marked: goes on as WATCH on the same connection.
    Not supported by the server: LIST, and never WATCH_LIST again with this client. Lost before the mark: WATCH_LIST."""
    LIST = "list"
    """A LIST under the current `ListSemantic`. Complete: WATCH. Version refused: LIST at MOST_RECENT. Else: LIST."""
    WATCH = "watch"
    """A watch from the last version received. Ended or lost: WATCH from there. 410, or a version that this server
    cannot serve: WATCH_LIST or LIST."""


class ListSemantic(Enum):
    """How fresh a LIST must be. Strengthened when the server refuses a version."""

    ANY = "any"
    """Whatever the API server has cached. May lack what was just created."""
    NOT_OLDER_THAN = "not older than"
    """At least the last version received, so that another API server does not take us back in time."""
    MOST_RECENT = "most recent"
    """Confirmed by the store, which costs the server the most."""


class Progress(Enum):
    """How far the current request has come. This decides what its end means."""

    SENT = "sent"
    OPENED = "opened"
    """The server responded with success."""
    RECEIVING = "receiving"
    """Part of a list or a line of a watch has arrived."""


class _StalledError(UnreachableError):
    """The connection is open, but nothing has arrived for too long."""


class _UnmarkedError(ApiError):
    """The server ignores `sendInitialEvents`: it does not mark the end of the initial events."""


_E = TypeVar("_E", bound=ApiError)


class Watcher:
    """One watch. `events()` is its stream.

    `on_problem` is called with each error that keeps the watch from being served, and with None once it is served
    again. An exception that it raises ends the stream.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        on_problem: Callable[[ApiError | None], None] | None = None,
    ) -> None:
        self.version = ""
        """The last resourceVersion received: where a watch resumes."""
        self.received_at = asyncio.get_running_loop().time()
        """When the server has last sent anything, by the loop's clock; until then, when this was made."""
        self._client = client
        self._namespace = namespace
        self._place = (client.config.host, namespace)
        """The tags of its metrics."""
        self._labels = label_selector
        self._fields = field_selector
        self._on_problem = on_problem
        self._problem: ApiError | None = None
        """The error last reported, until the watch is served again."""
        self._backoff = ReconnectBackoff()
        self._progress = Progress.SENT
        self._page_size: int | None = PAGE
        self._synced_at = 0.0
        self._synced_version = ""
        self._unexplained_500_at = ""
        """The version for which the server answered a watch with a 500 without a reason."""
        self.state, self._semantic = State.LIST, ListSemantic.ANY
        self.relist()

    def relist(self) -> None:
        """Sync again with the next request."""
        self.state = State.LIST if self._client in _no_watch_list else State.WATCH_LIST
        self._semantic = ListSemantic.NOT_OLDER_THAN if self.version else ListSemantic.ANY

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The stream. Close it (`contextlib.aclosing`) to close its connection."""
        clock = asyncio.get_running_loop().time
        while True:
            self._progress, started = Progress.SENT, clock()
            try:
                async with aclosing(self._list() if self.state is State.LIST else self._watch()) as events:
                    async for event in events:
                        yield event
                failed = self._progress is not Progress.RECEIVING and clock() - started < SHORT_WATCH
                pause = self._backoff.pause(clock()) if failed else 0.0
                if clock() - self._synced_at > RELIST_PERIOD:
                    self.relist()
                count(WATCH_RECONNECTS, *self._place, "ended")
            except ApiError as error:
                pause = self._failed(error, clock())
                count(WATCH_RECONNECTS, *self._place, "error")
            await asyncio.sleep(pause)

    async def _list(self) -> AsyncGenerator[WatchEvent, None]:
        """One LIST, page by page."""
        token = ""
        while True:
            decoder = PodListDecoder()
            async with self._client.list_stream(
                "pods",
                self._namespace,
                label_selector=self._labels,
                field_selector=self._fields,
                resource_version=None if token else self._list_version(),
                limit=self._page_size if self._semantic is ListSemantic.MOST_RECENT else None,
                continue_token=token,
            ) as chunks:
                if not token:
                    self._opened()
                    yield Init()
                async for pod in self._decode_list(decoder, chunks):
                    yield InitApply(pod)
            token = decoder.continue_token
            if not token:
                break
        yield self._synced(decoder.version, most_recent=self._semantic is ListSemantic.MOST_RECENT)

    async def _decode_list(self, decoder: PodListDecoder, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Pod, None]:
        try:
            while chunk := await self._chunk(chunks, STALL):
                self._progress = Progress.RECEIVING
                for pod in decoder.feed(chunk):
                    yield pod
            for pod in decoder.finish():
                yield pod
        except msgspec.DecodeError as error:
            raise malformed(self._action("list"), error) from error

    async def _watch(self) -> AsyncGenerator[WatchEvent, None]:
        """One watch: of the current pods and their changes (WATCH_LIST), or from a version on (WATCH)."""
        initial = self.state is State.WATCH_LIST
        action, splitter = self._action("watch"), LineSplitter()
        async with self._client.watch(
            "pods",
            self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            resource_version=None if initial else self.version,
            send_initial_events=initial,
            timeout_seconds=random.randint(*TIMEOUTS),
        ) as chunks:
            self._opened()
            if initial:
                yield Init()
            while chunk := await self._chunk(chunks, MARKER_STALL if self.state is State.WATCH_LIST else STALL):
                lines = self._split(splitter, chunk)
                count(WATCH_EVENTS, *self._place, by=len(lines))
                for line in lines:
                    self._progress = Progress.RECEIVING
                    decoded = decode_line(line, action)
                    if decoded and (event := self._interpret(decoded)):
                        yield event
        if self.state is State.WATCH_LIST:
            raise self._error(UnreachableError, "the watch ended before its initial events did")

    async def _chunk(self, chunks: AsyncIterator[bytes], stall: float) -> bytes:
        """The next bytes, empty at the end. Only this wait is timed: the caller's work between two chunks is not."""
        try:
            async with timeout(stall):
                chunk = await anext(chunks, b"")
        except asyncio.TimeoutError:
            raise self._error(_StalledError, f"the connection is open and silent for {stall:.0f} s") from None
        self.received_at = asyncio.get_running_loop().time()
        return chunk

    def _split(self, splitter: LineSplitter, chunk: bytes) -> list[bytes]:
        try:
            return splitter.feed(chunk)
        except ValueError as error:
            raise malformed(self._action("watch"), error) from error

    def _interpret(self, line: WatchLine) -> WatchEvent | None:
        """The event of a line. Advances the version, and the state from WATCH_LIST to WATCH."""
        version = line.object.metadata.resource_version
        if self.state is State.WATCH_LIST:
            if line.type is not EventType.BOOKMARK:
                # Initial events come in any order: no watch can resume from their versions.
                return Delete(line.object) if line.type is EventType.DELETED else InitApply(line.object)
            if not line.ends_initial_events:
                raise self._error(_UnmarkedError, "the server does not mark the end of the initial events")
            return self._synced(version, most_recent=True)
        if not is_older(version, self.version):
            self.version = version
        if line.type is EventType.BOOKMARK:
            if is_older(version, self.version):
                raise self._error(ExpiredError, f"the server is at version {version}, before {self.version}")
            return None
        return Delete(line.object) if line.type is EventType.DELETED else Apply(line.object)

    def _synced(self, version: str, *, most_recent: bool) -> InitDone:
        """Complete a sync at `version`."""
        if self._synced_version:
            count(WATCH_RELISTS, *self._place)
        self._synced_at, self._synced_version = asyncio.get_running_loop().time(), version
        self._recovered()
        rewound = most_recent and is_older(version, self.version)
        self.version, self.state, self._page_size = version, State.WATCH, PAGE
        return InitDone(rewound)

    def _opened(self) -> None:
        """Note a successful response. For a watch that is proof enough: the next event may be hours away."""
        self._progress = Progress.OPENED
        if self.state is State.WATCH:
            self._recovered()

    def _recovered(self) -> None:
        if self._problem is not None and self._on_problem:
            self._on_problem(None)
        self._problem = None

    def _failed(self, error: ApiError, now: float) -> float:
        """Choose the next state after `error`; report it unless the watch was served. Return the pause in seconds."""
        opened = self.state is State.WATCH and self._progress is not Progress.SENT
        if self._transition(error):
            return 0.0
        if not opened or error.code in (401, 403, 404):
            self._problem = error
            if self._on_problem:
                self._on_problem(error)
        return self._backoff.pause(now, error.retry_after)

    def _transition(self, error: ApiError) -> bool:
        """Move to the state that follows `error`. Return whether the next request may be sent at once."""
        if self.state is State.WATCH_LIST:
            if not isinstance(error, InvalidError | _UnmarkedError | _StalledError):
                return False
            _no_watch_list.add(self._client)
            self.relist()
            return True
        if self.state is State.LIST:
            return self._strengthen_list(error)
        if isinstance(error, ExpiredError):
            self.relist()
            # A server that rejects the version of its own list is broken: send it no more requests than others.
            return self.version != self._synced_version
        if isinstance(error, _StalledError) and self._progress is not Progress.RECEIVING:
            # A watch from a future version (another server, a restored store) is silent for ever.
            self.relist()
            return True
        if _is_unexplained_500(error):
            if self._unexplained_500_at == self.version:
                self.relist()
            self._unexplained_500_at = self.version
        return False

    def _strengthen_list(self, error: ApiError) -> bool:
        expired = isinstance(error, ExpiredError)
        if self._semantic is not ListSemantic.MOST_RECENT and (
            expired or error.code == 504 or _is_unexplained_500(error)
        ):
            self._semantic = ListSemantic.MOST_RECENT
            return bool(error.reason)
        if expired and self._page_size is not None:
            self._page_size = None
            return True
        return False

    def _list_version(self) -> str | None:
        """The `resourceVersion` parameter of a LIST under the current semantic."""
        return {
            ListSemantic.ANY: "0",
            ListSemantic.NOT_OLDER_THAN: self.version,
            ListSemantic.MOST_RECENT: None,
        }[self._semantic]

    def _action(self, verb: str) -> Action:
        return Action(verb, "pods", namespace=self._namespace)

    def _error(self, kind: type[_E], text: str) -> _E:
        action = self._action("watch")
        return kind(f"{action}: {text}", verb="watch", resource="pods", namespace=self._namespace)


def watch_pods(
    client: Client,
    namespace: str,
    *,
    label_selector: str = "",
    field_selector: str = "",
    on_problem: Callable[[ApiError | None], None] | None = None,
) -> AsyncGenerator[WatchEvent, None]:
    """The events of a new `Watcher`."""
    watcher = Watcher(
        client, namespace, label_selector=label_selector, field_selector=field_selector, on_problem=on_problem
    )
    return watcher.events()


def _is_unexplained_500(error: ApiError) -> bool:
    """Whether `error` is a 500 without a reason. API servers answer a version that is not a number so, each time."""
    return error.code == 500 and not error.reason
