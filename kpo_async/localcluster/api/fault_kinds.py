"""The kinds of fault: what each does to a request and to the frames of a stream. `faults.Faults` creates them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, NoReturn

from aiohttp import web

from kpo_async.localcluster.api import errors, watching
from kpo_async.localcluster.api.request_info import RequestInfo


@dataclass(frozen=True)
class RequestSelector:
    """Which requests a fault affects, and how many; None means all."""

    verb: str | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    times: int | None = None

    def matches(self, info: RequestInfo | None) -> bool:
        """Whether a request is selected; `info` is None for a path that is not a resource's."""
        if info is None:
            return self == RequestSelector(times=self.times)
        return (
            (self.verb is None or info.verb in self.verb.split())
            and self.resource in (None, info.path_in_rules)
            and self.namespace in (None, info.namespace)
            and self.name in (None, info.name)
        )


class Fault:
    """One fault, active inside its `with` block."""

    def __init__(self, selector: RequestSelector) -> None:
        self.selector = selector
        self.hits = 0
        """How often it has struck."""
        self._active: list[Fault] | None = None
        self._over: asyncio.Event | None = None
        self._struck: asyncio.Event | None = None

    def attach(self, active: list[Fault]) -> None:
        """Called by `Faults` before the context begins."""
        self._active = active

    def __enter__(self) -> Fault:
        assert self._active is not None
        self._over, self._struck = asyncio.Event(), asyncio.Event()
        self._active.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Deactivate the fault and release what it held back."""
        if self._active is not None and self in self._active:
            self._active.remove(self)
        if self._over is not None:
            self._over.set()

    def affects(self, info: RequestInfo | None) -> bool:
        """Whether the fault strikes a request: it is selected, and `times` is not used up."""
        return self.selector.matches(info) and not self.used_up

    @property
    def used_up(self) -> bool:
        """Whether the fault has struck as often as it may."""
        return self.selector.times is not None and self.hits >= self.selector.times

    def hit(self) -> None:
        """Count that the fault strikes."""
        self.hits += 1
        if self._struck is not None:
            self._struck.set()

    async def struck(self) -> None:
        """Wait until the fault has struck."""
        assert self._struck is not None
        await self._struck.wait()

    async def wait_over(self) -> None:
        """Wait until the fault ends."""
        assert self._over is not None
        await self._over.wait()

    async def on_request(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        """Handle a request that has arrived: raise StatusError, wait, or reset the connection."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        """Return what to send on a stream instead of `frames`."""
        return frames


class RespondError(Fault):
    """Responds with an error."""

    def __init__(self, selector: RequestSelector, error: Callable[[RequestInfo | None], errors.StatusError]) -> None:
        super().__init__(selector)
        self._error = error

    async def on_request(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        self.hit()
        raise self._error(info)


class ExpireWatches(Fault):
    """Ends a watch with 410 as soon as it has something to send."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        expired = watching.error_event(errors.expired("too old resource version: 1 (2)"))
        return [watching.render_json(expired), Cut.RESET]


class Delay(Fault):
    """Delays requests and the frames of streams."""

    def __init__(self, selector: RequestSelector, seconds: float) -> None:
        super().__init__(selector)
        self._seconds = seconds

    async def on_request(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        self.hit()
        await asyncio.sleep(self._seconds)

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        await asyncio.sleep(self._seconds)
        return frames


class HalfOpen(Fault):
    """Holds everything back until it ends."""

    def __init__(self, selector: RequestSelector, *, reset: bool) -> None:
        super().__init__(selector)
        self._reset = reset

    async def on_request(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        self.hit()
        await self.wait_over()
        if self._reset:
            await Reset.now(request)

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        await self.wait_over()
        return [Cut.RESET] if self._reset else frames


class Reset(Fault):
    """Resets the connection instead of responding."""

    async def on_request(self, info: RequestInfo | None, request: web.BaseRequest) -> None:
        self.hit()
        await self.now(request)

    @staticmethod
    async def now(request: web.BaseRequest) -> NoReturn:
        """Reset a connection, which cancels the handler of its request."""
        if request.transport is not None:
            request.transport.abort()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a handler outlived its connection")


class Cut(Fault):
    """Ends a stream in the middle of a line."""

    RESET: ClassVar[bytes] = bytes(bytearray(b"<cut>"))
    """Marks the reset among the frames; compared by identity."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        frame = b"".join(frames)
        return [frame[: max(1, len(frame) // 2)], Cut.RESET]


class Fragment(Fault):
    """Sends streams in small pieces."""

    def __init__(self, selector: RequestSelector, size: int) -> None:
        super().__init__(selector)
        self._size = size

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        whole = b"".join(frames)
        return [whole[start : start + self._size] for start in range(0, len(whole), self._size)]


class Drop(Fault):
    """Loses events of watches; bookmarks and errors stay."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        kept = []
        for line in b"".join(frames).splitlines(keepends=True):
            if _is_write(line) and not self.used_up:
                self.hit()
            else:
                kept.append(line)
        return kept


class Duplicate(Fault):
    """Sends events of watches twice."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        sent = []
        for line in b"".join(frames).splitlines(keepends=True):
            sent.append(line)
            if _is_write(line) and not self.used_up:
                self.hit()
                sent.append(line)
        return sent


class Lag(Fault):
    """Answers lists from a cache that is no longer updated."""

    def __init__(self, selector: RequestSelector, version: int) -> None:
        super().__init__(selector)
        self.version = version


def _is_write(line: bytes) -> bool:
    return line.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"', b'{"type":"DELETED"'))
