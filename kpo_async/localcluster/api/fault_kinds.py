"""The single faults: what each does to a request and to the frames of a stream. `faults.Faults` makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, NoReturn

from aiohttp import web

from kpo_async.localcluster.api import errors, watching
from kpo_async.localcluster.api.route import Route


@dataclass(frozen=True)
class Where:
    """Which requests, and how many; None is all."""

    verb: str | None = None
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    times: int | None = None

    def covers(self, route: Route | None) -> bool:
        if route is None:
            return self == Where(times=self.times)
        return (
            (self.verb is None or route.verb in self.verb.split())
            and self.resource in (None, route.path_in_rules)
            and self.namespace in (None, route.namespace)
            and self.name in (None, route.name)
        )


class Fault:
    """One thing that goes wrong, from `with` to its end."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.hits = 0
        self._siblings: list[Fault] | None = None
        self._over: asyncio.Event | None = None
        self._struck: asyncio.Event | None = None

    def attach(self, active: list[Fault]) -> None:
        """Called by `Faults` before the context begins."""
        self._siblings = active

    def __enter__(self) -> Fault:
        assert self._siblings is not None
        self._over, self._struck = asyncio.Event(), asyncio.Event()
        self._siblings.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """The fault is over, also for those who wait for that."""
        if self._siblings is not None and self in self._siblings:
            self._siblings.remove(self)
        if self._over is not None:
            self._over.set()

    def strikes(self, route: Route | None) -> bool:
        """Whether a request is concerned, and the fault's `times` are not used up."""
        return self.where.covers(route) and (self.where.times is None or self.hits < self.where.times)

    def hit(self) -> None:
        self.hits += 1
        if self._struck is not None:
            self._struck.set()

    async def struck(self) -> None:
        """Return once the fault has struck."""
        assert self._struck is not None
        await self._struck.wait()

    async def wait_over(self) -> None:
        """Return when the fault is over."""
        assert self._over is not None
        await self._over.wait()

    async def on_request(self, route: Route | None, request: web.BaseRequest) -> None:
        """A request has arrived. May raise Refusal, wait, or reset the connection."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        """Something is about to be sent on a stream: what is to be sent instead."""
        return frames


class Refuse(Fault):
    """Answers with a refusal."""

    def __init__(self, where: Where, refusal: Callable[[Route | None], errors.Refusal]) -> None:
        super().__init__(where)
        self._refusal = refusal

    async def on_request(self, route: Route | None, request: web.BaseRequest) -> None:
        self.hit()
        raise self._refusal(route)


class ExpireWatches(Fault):
    """The first thing that a watch tells is its end."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        return [watching.error_line(errors.expired("too old resource version: 1 (2)")), Cut.HERE]


class Delay(Fault):
    """Makes everything late."""

    def __init__(self, where: Where, seconds: float) -> None:
        super().__init__(where)
        self._seconds = seconds

    async def on_request(self, route: Route | None, request: web.BaseRequest) -> None:
        self.hit()
        await asyncio.sleep(self._seconds)

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        await asyncio.sleep(self._seconds)
        return frames


class HalfOpen(Fault):
    """Holds everything back until it is over."""

    def __init__(self, where: Where, *, reset: bool) -> None:
        super().__init__(where)
        self._reset = reset

    async def on_request(self, route: Route | None, request: web.BaseRequest) -> None:
        self.hit()
        await self.wait_over()
        if self._reset:
            await Reset.now(request)

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        await self.wait_over()
        return [Cut.HERE] if self._reset else frames


class Reset(Fault):
    """Resets the connection instead of answering."""

    async def on_request(self, route: Route | None, request: web.BaseRequest) -> None:
        self.hit()
        await self.now(request)

    @staticmethod
    async def now(request: web.BaseRequest) -> NoReturn:
        """Reset a connection; the handler of its request is cancelled by that."""
        if request.transport is not None:
            request.transport.abort()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a handler outlived its connection")


class Cut(Fault):
    """Ends a stream in the middle of a line."""

    HERE: ClassVar[bytes] = bytes(bytearray(b"<cut>"))
    """Stands for the reset among the frames; compared by identity."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        frame = b"".join(frames)
        return [frame[: max(1, len(frame) // 2)], Cut.HERE]


class Fragment(Fault):
    """Sends in small pieces."""

    def __init__(self, where: Where, size: int) -> None:
        super().__init__(where)
        self._size = size

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        self.hit()
        whole = b"".join(frames)
        return [whole[start : start + self._size] for start in range(0, len(whole), self._size)]


class Drop(Fault):
    """Loses lines; bookmarks and errors are not events and stay."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        kept = []
        for line in b"".join(frames).splitlines(keepends=True):
            if _is_event(line) and (self.where.times is None or self.hits < self.where.times):
                self.hit()
            else:
                kept.append(line)
        return kept


class Duplicate(Fault):
    """Tells lines twice."""

    async def on_frames(self, frames: list[bytes]) -> list[bytes]:
        told = []
        for line in b"".join(frames).splitlines(keepends=True):
            told.append(line)
            if _is_event(line) and (self.where.times is None or self.hits < self.where.times):
                self.hit()
                told.append(line)
        return told


class Lag(Fault):
    """Answers lists from a cache that stands still."""

    def __init__(self, where: Where, version: int) -> None:
        super().__init__(where)
        self.version = version


def _is_event(line: bytes) -> bool:
    return line.startswith((b'{"type":"ADDED"', b'{"type":"MODIFIED"', b'{"type":"DELETED"'))
