"""The task's result, read out of the pod and checked: every byte the program wrote, or an error that says why not.

How it travels is written in `pod/xcom_sidecar.py`. A result is never half: its length is known, and its checksum where
the sidecar's image could make one; what arrived short is asked for again. Nothing here takes longer than `LIMIT`.
An empty file, or none at all, is no error but no result, as users of `do_xcom_push` are used to.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import ApiError, NotFoundError, ServerError, ThrottledError, UnreachableError, XComError
from kpo_async.kube.client import Client
from kpo_async.kube.remote_command import ExecResult
from kpo_async.kube.watch.informer import Subscription, View
from kpo_async.pod.containers import TERMINAL_PHASES
from kpo_async.pod.status import COMPANIONS_DEADLINE, PodState, assess
from kpo_async.pod.xcom_sidecar import CONTAINER, INSURED, MARK, RESULT_PATH, XComTransport, done_script, exec_script

__all__ = ["Kind", "XComResult", "XComTransport", "parse", "read"]

LIMIT = 60.0
"""Seconds until a result that does not come is given up."""
COMPANION_PATIENCE = 2.0
"""Seconds that other containers get to end by themselves after the base container, before the pod is told to stop."""
RETRY_PAUSE = 0.5
MAX_RESULT = 256 * 1024 * 1024
_THREAD_ABOVE = 64 * 1024
"""Bytes above which decoding would hold up the event loop noticeably."""
_BEGIN, _END = f"{MARK} begin ".encode(), f"{MARK} end".encode()

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What the program left."""

    VALUE = "value"
    EMPTY = "empty"
    ABSENT = "absent"


@dataclass(frozen=True)
class XComResult:
    """The result. `text` is the JSON as the program wrote it, `value` what it says; without a value both are None."""

    kind: Kind
    text: str | None = None
    value: Any = None


@dataclass(frozen=True)
class _Header:
    """The first line of the sidecar's message, or of the frame in its log."""

    where: str
    size: int = 0
    checksum: str = "-"


async def read(
    client: Client,
    feed: Subscription,
    *,
    base: str = "base",
    transport: str = XComTransport.SIDECAR,
    limit: float = LIMIT,
) -> XComResult:
    """The result of the pod that `feed` follows, once its base container has ended. `feed` is ours alone meanwhile.

    Takes at most `limit` seconds from the call. Raises XComError, and `ForbiddenError` when a right is missing.
    """
    reader = _Reader(client, feed, base)
    try:
        async with timeout(limit):
            content = await (reader.by_exec() if transport == XComTransport.EXEC else reader.by_message())
            if not isinstance(content, bytes):
                return XComResult(content)
            if len(content) > _THREAD_ABOVE:
                return await asyncio.to_thread(parse, content, reader.where)
            return parse(content, reader.where)
    except asyncio.TimeoutError:
        raise XComError(
            f"{reader.where}: {reader.waits_for} within {limit:.0f} s; clear the task to try again"
        ) from None


def parse(content: bytes, where: str) -> XComResult:
    """The result that `content` is. Raises XComError naming the place of what is wrong with it."""
    if not content:
        return XComResult(Kind.EMPTY)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise XComError(
            f"{where}: {RESULT_PATH} is no UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; "
            "write the result as JSON in UTF-8"
        ) from None
    if not text.strip():
        return XComResult(Kind.EMPTY)
    try:
        return XComResult(Kind.VALUE, text, json.loads(text))
    except json.JSONDecodeError as error:
        raise XComError(
            f"{where}: {RESULT_PATH} is no JSON: {error.msg} at line {error.lineno} column {error.colno} "
            f"(character {error.pos} of {len(text)}); write one JSON value, for example with json.dump()"
        ) from None
    except RecursionError:
        raise XComError(f"{where}: {RESULT_PATH} is nested too deeply to be read") from None


class _Reader:
    """One reading: where it stands, for the message when it takes too long."""

    def __init__(self, client: Client, feed: Subscription, base: str) -> None:
        self._client, self._feed, self._base = client, feed, base
        self._name, self._namespace = feed.slot.name, ""
        self.waits_for = "the pod was not seen"

    @property
    def where(self) -> str:
        return f"XCom of pod {self._namespace}/{self._name}".replace(" /", " ")

    async def by_message(self) -> bytes | Kind:
        """From the native sidecar: its termination message, and its log where the message says so."""
        self.waits_for = f"container {CONTAINER} did not hand the result over"
        message = await self._message()
        header, _, body = message.encode("utf-8", "surrogatepass").partition(b"\n")
        found = self._header(header)
        if found.where == "absent":
            return Kind.ABSENT
        if found.where == "empty":
            return Kind.EMPTY
        if found.where in ("text", "base64"):
            content = body if found.where == "text" else _from_base64(body)
            if content is not None and _is_whole(content, found):
                return content
            if found.size <= INSURED:
                raise XComError(f"{self.where}: the termination message of {CONTAINER} arrived damaged")
        return await self._from_log(found)

    async def by_exec(self) -> bytes | Kind:
        """From the classic sidecar: asked for, and then told to go."""
        self.waits_for = f"container {CONTAINER} did not run"
        await self._until(lambda state: state.verdict.ended and _runs(state))
        self.waits_for = f"no whole answer came from container {CONTAINER}"
        content = await self._persist(self._exec_once)
        with suppress(ApiError):  # it goes with the pod anyway
            await self._exec(done_script())
        return content

    async def _message(self) -> str:
        """The sidecar's last words, once the base container has ended."""
        await self._until(lambda state: state.verdict.ended)
        with suppress(asyncio.TimeoutError):
            async with timeout(COMPANION_PATIENCE):
                await self._until(lambda state: not state.running_main_containers)
        if (
            running_main_containers := self._state(self._feed.view).running_main_containers
        ) and not self._feed.view.presence.final:
            await self._stop_pod(running_main_containers)
        state = await self._until(lambda state: _last_words(state) is not None)
        return _last_words(state) or ""

    async def _stop_pod(self, running_main_containers: tuple[str, ...]) -> None:
        """End the pod, and leave it and its logs to be read: by an active deadline in the past.

        A native sidecar is told to stop when all main containers have ended, so one that runs for ever would keep the
        result back for as long.
        """
        log.info("%s: stopping %s, so that the result is handed over", self.where, ", ".join(running_main_containers))
        with suppress(NotFoundError):
            await self._client.patch(
                "pods", self._name, {"spec": {"activeDeadlineSeconds": COMPANIONS_DEADLINE}}, self._namespace
            )

    async def _until(self, condition: Callable[[PodState], bool]) -> PodState:
        """Wait until the pod meets the condition. Raises XComError if it cannot any more."""
        while True:
            view = self._feed.view
            if view.pod is not None:
                self._name, self._namespace = view.pod.metadata.name, view.pod.metadata.namespace
            state = self._state(view)
            if condition(state):
                return state
            if view.presence.final or state.phase in TERMINAL_PHASES:
                raise self._missing(state, gone=view.presence.final)
            await self._feed.next()

    def _state(self, view: View) -> PodState:
        return assess(view.pod, self._base, gone=view.presence.final)

    def _missing(self, state: PodState, *, gone: bool) -> XComError:
        sidecar = state.container(CONTAINER)
        if sidecar is None and state.containers:
            return XComError(
                f"{self.where}: the pod has no container {CONTAINER}; was it built with do_xcom_push=True?"
            )
        if sidecar is not None and sidecar.exit_code is not None:
            how = f"ended with exit code {sidecar.exit_code} ({sidecar.reason}) and left no result"
            return XComError(
                f"{self.where}: container {CONTAINER} {how}; is the image {sidecar.image} one with a shell?"
            )
        if gone:
            return XComError(f"{self.where}: the pod was gone ({state.reason}) before its result was handed over")
        return XComError(f"{self.where}: container {CONTAINER} never ran, pod {state.phase} ({state.reason})")

    def _header(self, line: bytes) -> _Header:
        header = _header(line)
        if header is None:
            raise XComError(
                f"{self.where}: container {CONTAINER} left {line[:80]!r}, which is no result of this library"
            )
        if header.where == "unreadable":
            raise XComError(
                f"{self.where}: container {CONTAINER} may not read {RESULT_PATH}; let the program make it readable for "
                "others, or run both as one user with xcom_sidecar_container_security_context"
            )
        if header.size > MAX_RESULT:
            raise XComError(f"{self.where}: {RESULT_PATH} has {header.size} bytes; the limit is {MAX_RESULT}")
        return header

    async def _from_log(self, header: _Header) -> bytes | Kind:
        """Out of the frame in the sidecar's log, asked for until it comes whole."""
        self.waits_for = f"{header.size} bytes did not come whole out of the log of container {CONTAINER}"

        async def once() -> bytes | None:
            async with self._client.log(
                self._name, self._namespace, container=CONTAINER, timestamps=False, idle_timeout=10.0
            ) as chunks:
                return await _unpack(b"".join([chunk async for chunk in chunks]), header)

        return await self._persist(once)

    async def _exec_once(self) -> bytes | Kind | None:
        """One answer of the classic sidecar; None if it came short."""
        result = await self._exec(exec_script())
        line, _, frame = result.stdout.partition(b"\n")
        if _header(line) is None and result.stderr:
            raise XComError(f"{self.where}: container {CONTAINER} answered {result.stderr[:200]!r}")
        if not line:
            return None
        found = self._header(line)
        if found.where in (Kind.ABSENT, Kind.EMPTY):
            return Kind(found.where)
        return await _unpack(frame, found)

    async def _exec(self, script: str) -> ExecResult:
        return await self._client.exec(self._name, self._namespace, container=CONTAINER, command=["sh", "-c", script])

    async def _persist(self, attempt: Callable[[], Awaitable[bytes | Kind | None]]) -> bytes | Kind:
        """Try until something came whole; what cannot get better is raised."""
        while True:
            with suppress(UnreachableError, ServerError, ThrottledError):
                if (found := await attempt()) is not None:
                    return found
            await asyncio.sleep(RETRY_PAUSE)


def _last_words(state: PodState) -> str | None:
    """What the sidecar said when it ended; what it was when it crashed before is not taken for it."""
    sidecar = state.container(CONTAINER)
    if sidecar is None or sidecar.exit_code is None or not sidecar.message.startswith(MARK):
        return None
    return sidecar.message


def _runs(state: PodState) -> bool:
    sidecar = state.container(CONTAINER)
    return sidecar is not None and sidecar.started and not sidecar.ended


def _header(line: bytes) -> _Header | None:
    """`kpo-async/1 WHERE [SIZE SHA256]`"""
    words = line.decode("ascii", "replace").split()
    if words[:1] != [MARK] or len(words) not in (2, 4) or not (len(words) == 2 or words[2].isdigit()):
        return None
    return _Header(words[1]) if len(words) == 2 else _Header(words[1], int(words[2]), words[3])


def _is_whole(content: bytes, header: _Header) -> bool:
    if len(content) != header.size:
        return False
    return header.checksum == "-" or hashlib.sha256(content).hexdigest() == header.checksum


async def _unpack(output: bytes, header: _Header) -> bytes | None:
    return await asyncio.to_thread(_unframe, output, header)


def _unframe(output: bytes, header: _Header) -> bytes | None:
    """The content that `header` announces, out of the frame in a log; None if it is not there whole."""
    lines = output.split(b"\n")
    for at in range(len(lines) - 3, -1, -1):
        if lines[at].startswith(_BEGIN) and lines[at + 2] == _END:
            content = _from_base64(lines[at + 1], unzip=lines[at].startswith(_BEGIN + b"gzip"))
            return content if content is not None and _is_whole(content, header) else None
    return None


def _from_base64(data: bytes, *, unzip: bool = False) -> bytes | None:
    try:
        content = base64.b64decode(data, validate=True)
        return gzip.decompress(content) if unzip else content
    except (binascii.Error, OSError, EOFError, zlib.error):
        return None
