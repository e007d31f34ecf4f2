"""Follow the log of one container to its end, through every cut: each line once, in order.

Whether the container has started and whether it has ended is told by whoever watches the pod (`Lifeline`); nothing is
polled. A log that cannot be read (no right, pod gone) ends the following with a note in the log, never with an error:
the pod's verdict does not come from here. Deadlines are the caller's: cancel at any time, what was read is emitted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import ApiError, ForbiddenError, NotFoundError
from kpo_async.kube.client import Client
from kpo_async.logs.emitter import Emitter
from kpo_async.logs.lines import Cursor, LineReader, LogLine
from kpo_async.logs.stream_limit import StreamLimit, stream_limit_of

SILENCE = 600.0
"""Seconds without a byte until a stream is opened anew: after some log rotations the old one says nothing any more."""
DRAIN_SILENCE = 5.0
"""The same once the container has ended."""
STATUS_LAG = 3.0
"""Seconds by which the news of a container's end may trail the end of its log."""
SLICE = 32 * 1024
"""Bytes read in one go: a few milliseconds of work if they are all short lines."""
SMALL = 2 * 1024
"""Bytes that are read at once, without waiting for a turn."""
FINAL_ATTEMPTS = 6
"""How often the rest of an ended container's log is asked for."""


class Lifeline:
    """What whoever watches the pod tells the follower of one container."""

    def __init__(self) -> None:
        self.started = False
        """There is a log to read."""
        self.ended = False
        """The container does not run and will not again; set without `started` if it never ran."""
        self.stopped = False
        """What is not read yet is not wanted any more."""
        self._listeners: set[Callable[[], None]] = set()

    def tell(self, *, started: bool = False, ended: bool = False, stopped: bool = False) -> None:
        """Add to what is known; nothing is ever taken back."""
        self.started |= started
        self.ended |= ended
        self.stopped |= stopped
        for listener in tuple(self._listeners):
            listener()

    @contextmanager
    def listen(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` whenever something was told."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something about this lifeline to be so."""
        told = asyncio.Event()
        with self.listen(told.set):
            while not condition():
                told.clear()
                await told.wait()


class _End(StrEnum):
    """How one stream ended."""

    EOF = "eof"
    SILENT = "silent"
    GAVE_WAY = "gave way"


class Follower:
    """One container's log. `run` it once."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        container: str,
        *,
        life: Lifeline,
        emitter: Emitter,
        cursor: Cursor | None = None,
        slots: StreamLimit | None = None,
    ) -> None:
        """`slots` are the client's, shared with everybody who uses it, unless others are given."""
        self._client, self._name, self._namespace, self._container = client, name, namespace, container
        self._life, self._emitter = life, emitter
        self._slots = slots or stream_limit_of(client)
        self.cursor = cursor or Cursor()
        """Where the emitted lines end."""
        self.complete = False
        """Whether the log was read to its end."""
        self._failures = 0
        self._doubt = False
        """Whether a stream was cut: the end of the next is not believed then, what may be left is asked for."""
        self._given_up = False

    async def run(self) -> None:
        """Follow until the log is drained. Returns early when it cannot be read, after a note in the log."""
        life = self._life
        await life.until(lambda: life.started or life.ended or life.stopped)
        self.complete = not life.started
        while not (self.complete or self._given_up or life.stopped):
            final = life.ended
            try:
                await self._stream(final)
            except (NotFoundError, ForbiddenError) as error:
                self._give_up(error)
            except ApiError as error:
                # Among them 400, "container is waiting to start": the log may come a moment after the status.
                await self._try_again(final, error)

    async def _stream(self, final: bool) -> None:
        """Read one answer, and decide what its end means."""
        before = self.cursor
        reader = LineReader(self._container, before)
        end = await self._read(reader, final)
        if end is _End.GAVE_WAY:
            return
        if end is _End.EOF and self._doubt and final and self.cursor != before:
            return  # whoever cut streams before may have cut this one: it is whole when nothing more comes
        if end is _End.EOF and (final or (not self._doubt and await self._ends_soon())):
            self._take(reader, reader.end())
            self.complete = True
        else:
            # A stream ends early, and cleanly, when the kubelet restarts; some rotations of a log silence it.
            await self._try_again(final, "no more came")

    async def _read(self, reader: LineReader, final: bool) -> _End:
        loop, life = asyncio.get_running_loop(), self._life
        end = _End.SILENT
        scope = timeout(None)

        def preempt() -> None:
            nonlocal end
            end = _End.GAVE_WAY
            scope.reschedule(loop.time())

        def bound_silence() -> None:
            if end is not _End.GAVE_WAY:
                allowed = 0 if life.stopped else DRAIN_SILENCE if life.ended else SILENCE
                scope.reschedule(loop.time() + allowed)

        try:
            async with (
                self._slots.hold(preempt),
                scope,
                self._client.log(
                    self._name,
                    self._namespace,
                    container=self._container,
                    follow=not final,
                    since_time=self.cursor.since or None,
                ) as chunks,
            ):
                with life.listen(bound_silence):
                    bound_silence()
                    async for chunk in chunks:
                        await self._digest(reader, chunk)
                        bound_silence()
        except asyncio.TimeoutError:
            return end
        return _End.EOF

    async def _ends_soon(self) -> bool:
        """Whether the container's end, which the end of its log announces, gets known."""
        with suppress(asyncio.TimeoutError):
            async with timeout(STATUS_LAG):
                await self._life.until(lambda: self._life.ended)
        return self._life.ended

    async def _try_again(self, final: bool, error: object) -> None:
        """Back off before the next attempt; the container's end cuts it short."""
        self._doubt = True
        self._failures += 1
        if final and self._failures >= FINAL_ATTEMPTS:
            return self._give_up(error)
        life, ended = self._life, self._life.ended
        delay = min(30.0, 0.4 * 2**self._failures) * random.uniform(0.5, 1.0)
        with suppress(asyncio.TimeoutError):
            async with timeout(delay):
                await life.until(lambda: life.stopped or life.ended > ended)

    def _give_up(self, error: object) -> None:
        self._given_up = True
        self._note(f"the rest of the log cannot be read: {error}")

    async def _digest(self, reader: LineReader, chunk: bytes) -> None:
        """Read a chunk without holding up the loop: a little of it at a time, one follower at a time."""
        for start in range(0, len(chunk), SLICE):
            piece = chunk[start : start + SLICE]
            if len(piece) < SMALL:
                self._take(reader, reader.feed(piece))
            else:
                async with self._emitter.reading:
                    self._take(reader, reader.feed(piece))
                    await asyncio.sleep(0)
            await self._emitter.room()

    def _take(self, reader: LineReader, lines: list[LogLine]) -> None:
        if reader.gap:
            reader.gap = False
            self._note("lines may be missing here: the log was rotated, or the container restarted")
        if lines:
            self._emitter.put(lines)
            self._failures = 0
        self.cursor = reader.cursor

    def _note(self, text: str) -> None:
        self._emitter.put([LogLine(self._container, "", f"(kpo-async: {text})")])
