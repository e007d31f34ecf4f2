"""Follow the log of one container to its end, through every cut: each line once, in order.

Whether the container has started and whether it has ended comes from its `ContainerStage`; nothing is polled. A log
that cannot be read (no permission, pod gone) ends the following with a note in the log, never with an error: the pod's
verdict comes from its status. Deadlines are the caller's: cancel at any time, the emitter knows what was emitted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import ApiError, ForbiddenError, NotFoundError, UnreachableError
from kpo_async.kube.client import Client
from kpo_async.kube.retry import Backoff
from kpo_async.logs.emitter import Emitter
from kpo_async.logs.lines import Cursor, LineReader, LogLine, note
from kpo_async.logs.stage import ContainerStage, Stage
from kpo_async.logs.stream_limit import StreamLimit, stream_limit_of
from kpo_async.metrics import LOG_BYTES, LOG_LINES, count

IDLE_TIMEOUT = 600.0
"""Seconds without a byte until a stream is opened again: after some log rotations the old one stays silent."""
DRAIN_IDLE_TIMEOUT = 5.0
"""The same once the container has ended."""
STATUS_LAG = 3.0
"""Seconds by which the news of a container's end may trail the end of its log."""
HELD_BACK = 10.0
"""Seconds that a stream must have been held back until it may lack a part of the log: kubelets rotate every 10 s."""
ROTATED_BYTES = 1024 * 1024
"""Bytes that it must have brought: logs smaller than this are not rotated."""
SUSPICIOUS_PAUSE = 1.0
"""Seconds between two lines of such a stream that count as a gap."""
SLICE = 32 * 1024
"""Bytes parsed at a time: a few milliseconds of work if they are all short lines."""
SMALL = 2 * 1024
"""Bytes that are parsed at once, without waiting for the other followers."""
FINAL_ATTEMPTS = 6
"""How often the rest of an ended container's log may be refused. Requests without an answer do not count: the API
server is away, and comes back."""
REPLAY_ATTEMPTS = 2
"""How often it is requested again when an answer ends before it gets beyond the lines that were read before."""
_RETRY = Backoff(first=0.8, cap=30.0, jitter=0.5)


class LogState(StrEnum):
    """How much of a log has been read."""

    GOING_ON = "going on"
    """There may be more; a stream that ends once the container has ended was the whole rest."""
    UNCONFIRMED = "unconfirmed"
    """There may be more, even after a clean end: streams were cut, or held back, and a kubelet ends a stream at the end
    of a rotated file once the container has ended. The log is complete once a further request brings nothing new."""
    COMPLETE = "complete"
    UNREADABLE = "unreadable"
    """The API server refuses the rest, or failed too often."""

    @property
    def final(self) -> bool:
        return self in (LogState.COMPLETE, LogState.UNREADABLE)


class _StreamEnd(StrEnum):
    EOF = "eof"
    IDLE = "idle"
    PREEMPTED = "preempted"


class ContainerLogFollower:
    """Reads one container's log into an emitter. `run` it once."""

    def __init__(
        self,
        client: Client,
        name: str,
        namespace: str,
        container: str,
        *,
        stage: ContainerStage,
        emitter: Emitter,
        cursor: Cursor | None = None,
        limit: StreamLimit | None = None,
    ) -> None:
        """`limit`: the client's own unless given."""
        self._client, self._name, self._namespace, self._container = client, name, namespace, container
        self._stage, self._emitter = stage, emitter
        self._limit = limit or stream_limit_of(client)
        self.cursor = cursor or Cursor()
        """Where the lines given to the emitter end."""
        self.state = LogState.GOING_ON
        self._failures = 0
        self._refusals = 0
        """How many of them were answers."""
        self._held_back = 0.0
        """Seconds that the current stream had to wait for the emitter."""
        self._received = 0
        """Bytes that the current stream has brought."""

    async def run(self) -> None:
        """Follow until the log is complete. Returns early when it cannot be read, after a note in the log."""
        await self._stage.reached(Stage.RUNNING)
        if self._stage.current is Stage.NEVER_RAN:
            self.state = LogState.COMPLETE
        while not self.state.final and self._stage.current is not Stage.UNWANTED:
            ended = self._stage.current >= Stage.ENDED
            try:
                await self._stream(ended)
            except (NotFoundError, ForbiddenError) as error:
                self._give_up(error)
            except ApiError as error:
                # Among them 400, "container is waiting to start": the log may come a moment after the status.
                await self._retry(ended, error)

    async def _stream(self, ended: bool) -> None:
        """Read one answer, and decide what its end means. `ended`: whether the container had ended before."""
        before, self._held_back, self._received = self.cursor, 0.0, 0
        reader = LineReader(self._container, before)
        end = await self._read(reader, ended)
        if self._held_back:
            self.state = LogState.UNCONFIRMED
        unconfirmed = self.state is LogState.UNCONFIRMED
        if end is _StreamEnd.PREEMPTED:
            return
        if end is _StreamEnd.EOF and unconfirmed and ended and self.cursor != before:
            return
        whole = end is _StreamEnd.EOF and (ended or (not unconfirmed and await self._ends_soon()))
        if whole and (not reader.replaying or self._failures >= REPLAY_ATTEMPTS):
            self._put(reader, reader.end())
            self.state = LogState.COMPLETE
        else:
            # A stream ends early, and cleanly, when the kubelet restarts; some rotations of a log silence it.
            await self._retry(ended, "the stream ended early")

    async def _read(self, reader: LineReader, ended: bool) -> _StreamEnd:
        loop, stage = asyncio.get_running_loop(), self._stage
        end = _StreamEnd.IDLE
        scope = timeout(None)

        def leave_at(moment: float | None) -> None:
            if not scope.expired():
                scope.reschedule(moment)

        def preempt() -> None:
            nonlocal end
            end = _StreamEnd.PREEMPTED
            leave_at(loop.time())

        def wait_for_bytes() -> None:
            if end is not _StreamEnd.PREEMPTED:
                leave_at(loop.time() + _idle_timeout(stage.current))

        def on_stage() -> None:
            # While bytes are parsed the server is not silent, however long the emitter holds that up.
            if scope.when() is not None or stage.current is Stage.UNWANTED:
                wait_for_bytes()

        try:
            async with (
                self._limit.hold(preempt),
                scope,
                self._client.log(
                    self._name,
                    self._namespace,
                    container=self._container,
                    follow=not ended,
                    since_time=self.cursor.since or None,
                ) as chunks,
            ):
                with stage.on_change(on_stage):
                    wait_for_bytes()
                    async for chunk in chunks:
                        if end is not _StreamEnd.PREEMPTED:
                            leave_at(None)
                        await self._parse(reader, chunk)
                        wait_for_bytes()
        except asyncio.TimeoutError:
            return end
        return _StreamEnd.EOF

    async def _ends_soon(self) -> bool:
        """Whether the container turns out to have ended: the end of its log comes first."""
        with suppress(asyncio.TimeoutError):
            async with timeout(STATUS_LAG):
                await self._stage.reached(Stage.ENDED)
        return self._stage.current in (Stage.ENDED, Stage.NEVER_RAN)

    async def _retry(self, ended: bool, error: object) -> None:
        """Back off before the next request; the container's end cuts the pause short."""
        self.state = LogState.UNCONFIRMED
        self._failures += 1
        self._refusals += not isinstance(error, UnreachableError)
        if ended and self._refusals >= FINAL_ATTEMPTS:
            return self._give_up(error)
        with suppress(asyncio.TimeoutError):
            async with timeout(_RETRY.delay(self._failures)):
                await self._stage.reached(Stage.UNWANTED if ended else Stage.ENDED)

    def _give_up(self, error: object) -> None:
        self.state = LogState.UNREADABLE
        self._emitter.put([note(self._container, f"the rest of the log cannot be read: {error}")])

    async def _parse(self, reader: LineReader, chunk: bytes) -> None:
        """Parse a chunk without holding up the loop: a slice at a time, one follower at a time."""
        self._received += len(chunk)
        count(LOG_BYTES, by=len(chunk))
        for start in range(0, len(chunk), SLICE):
            piece = chunk[start : start + SLICE]
            if len(piece) < SMALL:
                self._put(reader, reader.feed(piece))
            else:
                async with self._emitter.parsing:
                    self._put(reader, reader.feed(piece))
                    await asyncio.sleep(0)
            await self._wait_for_room(reader)

    async def _wait_for_room(self, reader: LineReader) -> None:
        if self._emitter.has_room:
            return
        loop = asyncio.get_running_loop()
        since = loop.time()
        await self._emitter.wait_for_room()
        self._held_back += loop.time() - since
        if self._held_back >= HELD_BACK and self._received >= ROTATED_BYTES:
            reader.suspicious_pause = SUSPICIOUS_PAUSE

    def _put(self, reader: LineReader, lines: list[LogLine]) -> None:
        if lines:
            count(LOG_LINES, by=len(lines))
            self._emitter.put(lines)
            self._failures = self._refusals = 0
        self.cursor = reader.cursor


def _idle_timeout(stage: Stage) -> float:
    """Seconds without a byte after which a stream is left."""
    if stage is Stage.UNWANTED:
        return 0.0
    return DRAIN_IDLE_TIMEOUT if stage >= Stage.ENDED else IDLE_TIMEOUT
