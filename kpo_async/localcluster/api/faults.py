"""Injects faults into the API server: `with cluster.faults.throttle(verb="watch", times=3) as fault: ...`.

A fault is a context manager; faults can be combined. `hits` counts how often one has struck. `verb`, `resource`,
`namespace` and `name` select the requests (by default all), `times` limits their number. Faults of streams affect open
watches and logs as well as new ones.
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
    RequestSelector,
    Reset,
    RespondError,
)
from kpo_async.localcluster.api.request_info import RequestInfo
from kpo_async.localcluster.store.store import Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Fault = TypeVar("_Fault", bound=Fault)


class FaultScope(TypedDict, total=False):
    """Which requests a fault affects."""

    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; `watch list` for either."""
    resource: str
    """For example pods, or pods/log."""
    namespace: str
    name: str
    times: int
    """How often it strikes at most."""


class FaultTarget(Protocol):
    """The part of a cluster that faults act on."""

    store: Store

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None: ...

    def down(self) -> AbstractAsyncContextManager[None]: ...

    def cut_connections(self) -> None: ...

    def expire_watches(self) -> None: ...


class Faults:
    """The active faults, and the ways to add one."""

    def __init__(self, cluster: FaultTarget) -> None:
        self._cluster = cluster
        self._active: list[Fault] = []

    # -- error responses

    def throttle(self, retry_after: int = 1, **scope: Unpack[FaultScope]) -> Fault:
        """429 with `Retry-After` in seconds."""
        message = "too many requests, please try again later"
        error = errors.StatusError(429, message, details={}, retry_after=retry_after)
        return self._add(RespondError(_selector(scope), lambda info: error))

    def fail(self, code: int = 500, **scope: Unpack[FaultScope]) -> Fault:
        """500, 502, 503 or 504; or 409, as where another create changes the same quota at that moment."""
        return self._add(RespondError(_selector(scope), lambda info: _failure(code)))

    def forbid(self, **scope: Unpack[FaultScope]) -> Fault:
        """403, as if the user's role had been removed."""
        return self._add(RespondError(_selector(scope), _forbidden))

    def unauthorize(self, **scope: Unpack[FaultScope]) -> Fault:
        """401, as if the token had expired."""
        return self._add(RespondError(_selector(scope), lambda info: errors.StatusError(401, "Unauthorized")))

    def expire(self, **scope: Unpack[FaultScope]) -> Fault:
        """410: for a new watch an ERROR event in its stream, for any other request the HTTP status."""
        selector = _selector(scope)
        if selector.verb == "watch":
            return self._add(ExpireWatches(selector))
        return self._add(RespondError(selector, _expired))

    # -- slow and unresponsive servers

    def delay(self, seconds: float, **scope: Unpack[FaultScope]) -> Fault:
        """Delay responses, and each chunk of a stream. `verb="list"` makes lists slow."""
        return self._add(Delay(_selector(scope), seconds))

    def half_open(self, *, reset: bool = False, **scope: Unpack[FaultScope]) -> Fault:
        """Connections are accepted and stay open, but nothing is sent on them until the fault ends.

        Then everything continues, or with `reset` every connection that waited is reset.
        """
        return self._add(HalfOpen(_selector(scope), reset=reset))

    # -- broken connections

    def reset(self, **scope: Unpack[FaultScope]) -> Fault:
        """Reset the connection instead of responding."""
        return self._add(Reset(_selector(scope)))

    def cut(self, **scope: Unpack[FaultScope]) -> Fault:
        """Reset the connection of a stream in the middle of a line."""
        return self._add(Cut(_selector(scope)))

    def fragment(self, size: int = 1, **scope: Unpack[FaultScope]) -> Fault:
        """Send streams in pieces of `size` bytes."""
        return self._add(Fragment(_selector(scope), size))

    def cut_connections(self) -> None:
        """Reset every open connection."""
        self._cluster.cut_connections()

    def refuse(self) -> AbstractAsyncContextManager[None]:
        """`async with`: new connections are refused, open ones are reset."""
        return self._cluster.down()

    # -- wrong data

    def drop(self, **scope: Unpack[FaultScope]) -> Fault:
        """Lose events of watches. No real server does this; a client that relists from time to time survives it."""
        return self._add(Drop(_selector(scope)))

    def duplicate(self, **scope: Unpack[FaultScope]) -> Fault:
        """Send events of watches twice."""
        return self._add(Duplicate(_selector(scope)))

    def lag(self, **scope: Unpack[FaultScope]) -> Fault:
        """Lists with resourceVersion=0 show the state at the fault's start, as a stale cache does."""
        return self._add(Lag(_selector(scope), self._cluster.store.version))

    def rewind(self, by: int) -> None:
        """Lower all versions by `by`, as after a restore from a backup; open watches end and history is discarded."""
        self._cluster.store.renumber(-by)
        self._cluster.cut_connections()

    # -- history

    def compact(self) -> None:
        """Discard history: a watch that resumes from an earlier version gets 410 in its stream."""
        self._cluster.store.compact()

    def expire_watches(self) -> None:
        """End every open watch with 410."""
        self._cluster.store.compact()
        self._cluster.expire_watches()

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None:
        """Restart the API server, which is unreachable for `down` seconds."""
        await self._cluster.restart(keep_history=keep_history, down=down)

    # -- called by the server

    def _add(self, fault: _Fault) -> _Fault:
        fault.attach(self._active)
        return fault

    def clear(self) -> None:
        """End all faults."""
        for fault in tuple(self._active):
            fault.end()

    async def before(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        """Apply faults to a request that has arrived. Raises StatusError, or delays the request."""
        for fault in tuple(self._active):
            if fault.affects(info):
                await fault.on_request(info, request)

    def cache_version(self, info: RequestInfo) -> int | None:
        """Return the version that a list from the cache shows, None for the current one."""
        return next((fault.version for fault in self._active if isinstance(fault, Lag) and fault.affects(info)), None)

    async def stream(
        self, info: RequestInfo, request: web.BaseRequest, frames: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes, None]:
        """Yield the frames of a stream as the faults leave them."""
        async for frame in frames:
            pieces = [frame]
            for fault in tuple(self._active):
                if fault.affects(info):
                    pieces = await fault.on_frames(pieces)
            for piece in pieces:
                if piece is Cut.RESET:
                    await Reset.now(request)
                yield piece


def _selector(scope: FaultScope) -> RequestSelector:
    return RequestSelector(
        scope.get("verb"), scope.get("resource"), scope.get("namespace"), scope.get("name"), scope.get("times")
    )


def _failure(code: int) -> errors.StatusError:
    changed = "the object has been modified; please apply your changes to the latest version and try again"
    messages: dict[int, tuple[str, str]] = {
        409: ("Conflict", f'Operation cannot be fulfilled on resourcequotas "quota": {changed}'),
        500: ("InternalError", "Internal error occurred: a fault was injected"),
        502: ("", "Bad Gateway"),
        503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504: ("Timeout", "the server was unable to return a response in the time allotted"),
    }
    reason, message = messages[code]
    return errors.StatusError(code, message, reason=reason, details={})


def _forbidden(info: RequestInfo | None) -> errors.StatusError:
    if info is None:
        return errors.StatusError(403, "forbidden: a fault was injected", details={})
    where = f'in the namespace "{info.namespace}"' if info.namespace else "at the cluster scope"
    message = (
        f'User "fault-injected" cannot {info.verb} resource "{info.path_in_rules}" '
        f'in API group "{info.resource.group}" {where}'
    )
    return errors.forbidden(info.resource.name, info.name, message, info.resource.group)


def _expired(info: RequestInfo | None) -> errors.StatusError:
    return errors.expired("The resourceVersion for the provided list is too old.")
