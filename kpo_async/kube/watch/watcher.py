"""The pods of a selection as a stream of five events that never ends: what is there, then what changes.

    Init            what follows is the whole selection, from the beginning
    InitApply(pod)  one pod of it
    InitDone        that was all of it: swap it in
    Apply(pod)      a pod was added or changed
    Delete(pod)     a pod left the selection: deleted, or its labels changed

410, bookmarks, stalls, cut lines, throttling and backoff live here and nowhere else. Between two `Init` the events of
one pod come in order. A dead connection, a restarted or replaced API server and a forbidden verb all end in a new
attempt; this gives up only when its caller stops asking. It holds no pods and knows no subscribers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
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
from kpo_async.kube.watch.decode import Change, Lines, PodList, WatchLine, decode_line, malformed
from kpo_async.kube.watch.events import Apply, Delete, Init, InitApply, InitDone, WatchEvent
from kpo_async.kube.watch.resource_version import is_older

__all__ = ["Apply", "Delete", "Init", "InitApply", "InitDone", "State", "WatchEvent", "Watcher", "watch_pods"]

STALL = 70.0
"""Seconds without a byte until a connection counts as dead. Bookmarks come every 60 s."""
MARKER_STALL = 15.0
"""The same before the initial events have ended: the server has those at hand."""
SHORT_WATCH = 1.0
"""Seconds; a watch that ends sooner and said nothing has failed."""
PAGE = 500
"""Pods per page of a LIST at `Rung.LATEST`; from its cache an API server answers whole."""
TIMEOUTS = (300, 600)
"""Seconds a watch asks for, at random: watchers do not reconnect all at once, and a new API server gets its share."""
RETELL = 1800.0
"""Seconds after which a watch that ends is followed by a telling of the present: should anything between the store and
us ever swallow an event, this bounds the damage."""

_without_stream: WeakSet[Client] = WeakSet()
"""Clients whose server answered `sendInitialEvents` with a refusal, with silence, or as if it were not there."""


class State(Enum):
    """What is asked of the server next, and where that leads."""

    STREAM = "stream"
    """A watch that begins with the present (KEP-3157). Marker came: goes on as WATCH on the same connection. Unknown to
    this server: LIST, and STREAM never again with this client. Lost before the marker: STREAM."""
    LIST = "list"
    """A LIST at the current `Rung`. Complete: WATCH. Version refused: LIST, one rung up. Anything else: LIST."""
    WATCH = "watch"
    """A watch from the last version seen. Ended or lost: WATCH from where it was. 410, or a version this server cannot
    serve: STREAM or LIST."""


class Rung(Enum):
    """How fresh a LIST must be: a ladder, climbed when the server refuses a version."""

    CACHE = "whatever the API server has at hand; may lack what was just created"
    SEEN = "not older than what was seen: no step back in time when another API server answers"
    LATEST = "confirmed by the store; costs the server the most"


@dataclass
class Counters:
    """What a watch has asked for and met so far."""

    lists: int = 0
    watches: int = 0
    stalls: int = 0
    failures: int = 0


@dataclass
class _Attempt:
    """One request: what is known of it decides what its end means."""

    started: float
    opened: bool = False
    """The server answered with success."""
    lines: int = 0


class _StalledError(UnreachableError):
    """The connection is open, and silent for too long."""


class _UnmarkedError(ApiError):
    """The server treats `sendInitialEvents` as if it were not there."""


_E = TypeVar("_E", bound=ApiError)


class Watcher:
    """One watch: `events()` is the stream, the attributes tell how it fares.

    `on_problem` hears each error that keeps the watch from being served, and None once it is served again. What it
    raises ends the stream.
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
        self.counters = Counters()
        self._client = client
        self._namespace = namespace
        self._labels = label_selector
        self._fields = field_selector
        self._on_problem = on_problem
        self._hindered = False
        self._recovery = ReconnectBackoff()
        self._paged = True
        self._quiet = True
        """Nothing was heard since the present was told."""
        self._told_at = 0.0
        self._doubted = ""
        """The version whose watch the server answered with an unexplained 500."""
        self._attempt = _Attempt(0.0)
        self.state, self._rung = State.LIST, Rung.CACHE
        self.start_over()

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """The stream. Close it (`contextlib.aclosing`) to close its connection."""
        clock = asyncio.get_running_loop().time
        while True:
            self._attempt = _Attempt(started=clock())
            try:
                async with aclosing(self._list() if self.state is State.LIST else self._watch()) as events:
                    async for event in events:
                        yield event
                short = not self._attempt.lines and clock() - self._attempt.started < SHORT_WATCH
                pause = self._recovery.pause(clock()) if short else 0.0
                if clock() - self._told_at > RETELL:
                    self.start_over()
            except ApiError as error:
                pause = self._failed(error, clock())
            await asyncio.sleep(pause)

    async def _list(self) -> AsyncGenerator[WatchEvent, None]:
        """One LIST, page by page."""
        self.counters.lists += 1
        token = ""
        while True:
            answer = PodList()
            async with self._client.list_stream(
                "pods",
                self._namespace,
                label_selector=self._labels,
                field_selector=self._fields,
                resource_version=None if token else self._asked_version(),
                limit=PAGE if self._rung is Rung.LATEST and self._paged else None,
                continue_token=token,
            ) as chunks:
                if not token:
                    self._opened()
                    yield Init()
                async for pod in self._listed(answer, chunks):
                    yield InitApply(pod)
            token = answer.continue_token
            if not token:
                break
        yield self._told(answer.version, latest=self._rung is Rung.LATEST)

    async def _listed(self, answer: PodList, chunks: AsyncIterator[bytes]) -> AsyncIterator[Pod]:
        try:
            while chunk := await self._chunk(chunks, STALL):
                self._attempt.lines += 1
                for pod in answer.feed(chunk):
                    yield pod
            for pod in answer.finish():
                yield pod
        except msgspec.DecodeError as error:
            raise malformed(self._action("list"), error) from error

    async def _watch(self) -> AsyncGenerator[WatchEvent, None]:
        """One watch: of the present and what follows (STREAM), or from a version on (WATCH)."""
        self.counters.watches += 1
        telling = self.state is State.STREAM
        action, lines = self._action("watch"), Lines()
        async with self._client.watch(
            "pods",
            self._namespace,
            label_selector=self._labels,
            field_selector=self._fields,
            resource_version=None if telling else self.version,
            send_initial_events=telling,
            timeout_seconds=random.randint(*TIMEOUTS),
        ) as chunks:
            self._opened()
            if telling:
                yield Init()
            while chunk := await self._chunk(chunks, MARKER_STALL if self.state is State.STREAM else STALL):
                for line in self._cut(lines, chunk):
                    self._attempt.lines += 1
                    decoded = decode_line(line, action)
                    if decoded and (event := self._understood(decoded)):
                        yield event
        if self.state is State.STREAM:
            raise self._error(UnreachableError, "the watch ended before it had told what there is")

    async def _chunk(self, chunks: AsyncIterator[bytes], stall: float) -> bytes:
        """The next bytes, empty at the end. Only this wait is timed: what our caller does meanwhile is its own time."""
        try:
            async with timeout(stall):
                return await anext(chunks, b"")
        except asyncio.TimeoutError:
            self.counters.stalls += 1
            raise self._error(_StalledError, f"the connection is open and silent for {stall:.0f} s") from None

    def _cut(self, lines: Lines, chunk: bytes) -> list[bytes]:
        try:
            return lines.feed(chunk)
        except ValueError as error:
            raise malformed(self._action("watch"), error) from error

    def _understood(self, line: WatchLine) -> WatchEvent | None:
        """What a line means now. Moves the version on, and STREAM to WATCH."""
        version = line.object.metadata.resource_version
        if self.state is State.STREAM:
            if line.type is not Change.BOOKMARK:
                # Initial events come in any order: their versions are no place to resume from.
                return Delete(line.object) if line.type is Change.DELETED else InitApply(line.object)
            if not line.ends_initial_events:
                raise self._error(_UnmarkedError, "the server does not mark the end of the initial events")
            return self._told(version, latest=True)
        self._quiet = False
        if not is_older(version, self.version):
            self.version = version
        if line.type is Change.BOOKMARK:
            if is_older(version, self.version):
                raise self._error(ExpiredError, f"the server is at version {version}, before {self.version}")
            return None
        return Delete(line.object) if line.type is Change.DELETED else Apply(line.object)

    def _told(self, version: str, *, latest: bool) -> InitDone:
        """The present is complete as of `version`."""
        self._told_at = asyncio.get_running_loop().time()
        self._relieved()
        rewound = latest and is_older(version, self.version)
        self.version, self.state, self._rung = version, State.WATCH, Rung.SEEN
        self._quiet, self._paged = True, True
        return InitDone(rewound)

    def _opened(self) -> None:
        """The server answers. To a watch that is all it takes: the next event may be hours away."""
        self._attempt.opened = True
        if self.state is State.WATCH:
            self._relieved()

    def _relieved(self) -> None:
        if self._hindered and self._on_problem:
            self._on_problem(None)
        self._hindered = False

    def _failed(self, error: ApiError, now: float) -> float:
        """Choose the next state after `error`. Returns the pause before it, in seconds."""
        self.counters.failures += 1
        served = self.state is State.WATCH and self._attempt.opened and error.code not in (401, 403, 404)
        if self._move_on(error):
            return 0.0
        if not served:
            self._hindered = True
            if self._on_problem:
                self._on_problem(error)
        return self._recovery.pause(now, error.retry_after)

    def _move_on(self, error: ApiError) -> bool:
        """The transitions. Whether the next attempt may be made at once."""
        if self.state is State.STREAM:
            if not isinstance(error, InvalidError | _UnmarkedError | _StalledError):
                return False
            _without_stream.add(self._client)
            self.start_over()
            return True
        if self.state is State.LIST:
            return self._climb(error)
        if isinstance(error, ExpiredError):
            # A version that the server itself has just given cannot be too old: something is broken, do not hurry.
            heard = not self._quiet
            self.start_over()
            return heard
        if isinstance(error, _StalledError) and not self._attempt.lines:
            # From a version of the future (another server, a restored store) a watch is silent for ever.
            self.start_over()
            return True
        if _is_unexplained(error):
            if self._doubted == self.version:
                self.start_over()
            self._doubted = self.version
        return False

    def _climb(self, error: ApiError) -> bool:
        expired = isinstance(error, ExpiredError)
        if self._rung is not Rung.LATEST and (expired or error.code == 504 or _is_unexplained(error)):
            self._rung = Rung.LATEST
            return bool(error.reason)
        if expired and self._paged:
            self._paged = False
            return True
        return False

    def start_over(self) -> None:
        """Have the present told again by the next request."""
        self.state = State.LIST if self._client in _without_stream else State.STREAM
        self._rung = Rung.SEEN if self.version else Rung.CACHE

    def _asked_version(self) -> str | None:
        return {Rung.CACHE: "0", Rung.SEEN: self.version, Rung.LATEST: None}[self._rung]

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
    """The events of a `Watcher`."""
    watcher = Watcher(
        client, namespace, label_selector=label_selector, field_selector=field_selector, on_problem=on_problem
    )
    return watcher.events()


def _is_unexplained(error: ApiError) -> bool:
    """A 500 without a reason: how API servers answer a version that is no number. Looks transient and is not."""
    return error.code == 500 and not error.reason
