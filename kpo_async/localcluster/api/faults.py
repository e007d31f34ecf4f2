"""Breaks the API server on purpose, for a while: `with cluster.faults.throttle(verb="watch", times=3) as fault: ...`.

Faults are context managers and can be combined; each counts in `hits` how often it struck. `verb`, `resource`,
`namespace` and `name` say which requests they concern (all by default), `times` how many. Faults of streams concern
watches that are open already as well as new ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, TypedDict, TypeVar

from aiohttp import web

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.api.fault_kinds import (
    Cut,
    Delay,
    Drop,
    Duplicate,
    ExpireWatches,
    Fault,
    Fragment,
    HalfOpen,
    Lag,
    Refuse,
    Reset,
    Where,
)
from kpo_async.localcluster.api.route import Route
from kpo_async.localcluster.store.store import Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Fault = TypeVar("_Fault", bound=Fault)


class Scope(TypedDict, total=False):
    """Which requests a fault concerns."""

    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; `watch list` for either."""
    resource: str
    """For example pods, or pods/log."""
    namespace: str
    name: str
    times: int
    """It strikes so often, and then no more."""


class Target(Protocol):
    """What faults need of a cluster."""

    store: Store

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None: ...

    def down(self) -> AbstractAsyncContextManager[None]: ...

    def cut_connections(self) -> None: ...

    def expire_watches(self) -> None: ...


class Faults:
    """What goes wrong at the moment, and the ways to make it go wrong."""

    def __init__(self, cluster: Target) -> None:
        self._cluster = cluster
        self._active: list[Fault] = []

    # -- answers that are refusals

    def throttle(self, retry_after: int = 1, **scope: Unpack[Scope]) -> Fault:
        """429 with `Retry-After` in seconds."""
        message = "too many requests, please try again later"
        refusal = errors.Refusal(429, message, details={}, retry_after=retry_after)
        return self._add(Refuse(_where(scope), lambda route: refusal))

    def fail(self, code: int = 500, **scope: Unpack[Scope]) -> Fault:
        """500, 502, 503 or 504."""
        return self._add(Refuse(_where(scope), lambda route: _failure(code)))

    def forbid(self, **scope: Unpack[Scope]) -> Fault:
        """403, as if the rights had been taken away."""
        return self._add(Refuse(_where(scope), _forbidden))

    def unauthorize(self, **scope: Unpack[Scope]) -> Fault:
        """401, as if the token had expired."""
        return self._add(Refuse(_where(scope), lambda route: errors.Refusal(401, "Unauthorized")))

    def expire(self, **scope: Unpack[Scope]) -> Fault:
        """410: as HTTP status for anything but a watch, as an ERROR in the stream for a watch that begins."""
        where = _where(scope)
        return self._add(ExpireWatches(where)) if where.verb == "watch" else self._add(Refuse(where, _expired))

    # -- slow and silent servers

    def delay(self, seconds: float, **scope: Unpack[Scope]) -> Fault:
        """Answers, and each event of a stream, come later. `verb="list"` makes the slow list."""
        return self._add(Delay(_where(scope), seconds))

    def half_open(self, *, reset: bool = False, **scope: Unpack[Scope]) -> Fault:
        """Connections are accepted and stay open, and nothing is answered on them until the fault is over.

        Then it goes on where it stopped, or every connection that waited is reset.
        """
        return self._add(HalfOpen(_where(scope), reset=reset))

    # -- broken connections

    def reset(self, **scope: Unpack[Scope]) -> Fault:
        """The connection is reset instead of an answer."""
        return self._add(Reset(_where(scope)))

    def cut(self, **scope: Unpack[Scope]) -> Fault:
        """The connection of a stream is reset in the middle of a line."""
        return self._add(Cut(_where(scope)))

    def fragment(self, size: int = 1, **scope: Unpack[Scope]) -> Fault:
        """Streams arrive in pieces of `size` bytes."""
        return self._add(Fragment(_where(scope), size))

    def cut_connections(self) -> None:
        """Reset every open connection, now."""
        self._cluster.cut_connections()

    def refuse(self) -> AbstractAsyncContextManager[None]:
        """`async with`: nothing listens; open connections are reset."""
        return self._cluster.down()

    # -- wrong stories

    def drop(self, **scope: Unpack[Scope]) -> Fault:
        """Events of a watch get lost. No real server does this; a client that lists again now and then survives it."""
        return self._add(Drop(_where(scope)))

    def duplicate(self, **scope: Unpack[Scope]) -> Fault:
        """Events of a watch are told twice."""
        return self._add(Duplicate(_where(scope)))

    def lag(self, **scope: Unpack[Scope]) -> Fault:
        """Lists with resourceVersion=0 show the state of when the fault began, as a cache that is behind does."""
        return self._add(Lag(_where(scope), self._cluster.store.version))

    def rewind(self, by: int) -> None:
        """All versions become smaller by `by`, as after a restore; open watches end and history is forgotten."""
        self._cluster.store.renumber(-by)
        self._cluster.cut_connections()

    # -- history

    def compact(self) -> None:
        """Forget history: a watch that resumes from before is told 410 in its stream."""
        self._cluster.store.compact()

    def expire_watches(self) -> None:
        """Every open watch is told 410 and ends, now."""
        self._cluster.store.compact()
        self._cluster.expire_watches()

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None:
        """Restart the API server, which nobody can reach for `down` seconds."""
        await self._cluster.restart(keep_history=keep_history, down=down)

    # -- for the server

    def _add(self, fault: _Fault) -> _Fault:
        fault.attach(self._active)
        return fault

    def clear(self) -> None:
        """End all faults."""
        for fault in tuple(self._active):
            fault.end()

    async def before(self, route: Route | None, request: web.BaseRequest) -> None:
        """Called with each request before anything else is done. Raises Refusal, or delays it."""
        for fault in tuple(self._active):
            if fault.strikes(route):
                await fault.on_request(route, request)

    def lag_version(self, route: Route) -> int | None:
        """At which version a list from the cache is to be answered, None for the present."""
        return next((fault.version for fault in self._active if isinstance(fault, Lag) and fault.strikes(route)), None)

    async def stream(
        self, route: Route, request: web.BaseRequest, frames: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """The frames of a stream as the client is to see them."""
        async for frame in frames:
            pieces = [frame]
            for fault in tuple(self._active):
                if fault.strikes(route):
                    pieces = await fault.on_frames(pieces)
            for piece in pieces:
                if piece is Cut.HERE:
                    await Reset.now(request)
                yield piece


def _where(scope: Scope) -> Where:
    return Where(
        scope.get("verb"), scope.get("resource"), scope.get("namespace"), scope.get("name"), scope.get("times")
    )


def _failure(code: int) -> errors.Refusal:
    messages: dict[int, tuple[str, str]] = {
        500: ("InternalError", "Internal error occurred: a fault was injected"),
        502: ("", "Bad Gateway"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: ("Timeout", "the server was unable to return a response in the time allotted"),
    }
    reason, message = messages[code]
    return errors.Refusal(code, message, reason=reason, details={})


def _forbidden(route: Route | None) -> errors.Refusal:
    if route is None:
        return errors.Refusal(403, "forbidden: a fault was injected", details={})
    where = f'in the namespace "{route.namespace}"' if route.namespace else "at the cluster scope"
    message = (
        f'User "fault-injected" cannot {route.verb} resource "{route.path_in_rules}" '
        f'in API group "{route.resource.group}" {where}'
    )
    return errors.forbidden(route.resource.name, route.name, message, route.resource.group)


def _expired(route: Route | None) -> errors.Refusal:
    return errors.expired("The resourceVersion for the provided list is too old.")
