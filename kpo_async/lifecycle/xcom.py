"""Read the task's result out of its pod and check it: every byte that the program wrote, or an error that says why not.

`pod/xcom_sidecar.py` describes the two transports. A result is never truncated: its length is known, and its checksum
where the sidecar's image has `sha256sum`; what arrives short is read again. A read takes at most `READ_TIMEOUT`.
An empty file, or none, is not an error: the task has no result, as users of `do_xcom_push` expect.
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
from kpo_async.exceptions import (
    ApiError,
    ConflictError,
    NotFoundError,
    ServerError,
    ThrottledError,
    UnreachableError,
    XComError,
)
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.remote_command import ExecResult
from kpo_async.kube.retry import Backoff
from kpo_async.kube.watch import Subscription, View
from kpo_async.lifecycle import result_json
from kpo_async.pod.companions import STOP
from kpo_async.pod.containers import TERMINAL_PHASES
from kpo_async.pod.status import PodState, assess
from kpo_async.pod.xcom_sidecar import CONTAINER, INSURED, MARK, RESULT_PATH, XComTransport, done_script, exec_script

READ_TIMEOUT = 60.0
"""Seconds until reading a result is given up."""
COMPANION_GRACE = 2.0
"""Seconds for the other main containers to end by themselves after the base container, before the pod is stopped."""
MAX_RESULT = 256 * 1024 * 1024
"""Bytes."""
BACKOFF = Backoff(first=0.5, cap=4.0)
"""Between reads of a result that came truncated or met an error. The client has retried single calls before that."""
_THREAD_ABOVE = 64 * 1024
"""Bytes above which decoding would block the event loop noticeably."""
_BEGIN, _END = f"{MARK} begin ".encode(), f"{MARK} end".encode()

log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What the program left."""

    VALUE = "value"
    EMPTY = "empty"
    ABSENT = "absent"


@dataclass(frozen=True)
class XComResult:
    """The result. `text` is the JSON as the program wrote it, `value` is parsed; both are None without a value."""

    kind: Kind
    text: str | None = None
    value: Any = None


@dataclass(frozen=True)
class _Header:
    """The first line of the sidecar's termination message, or of the frame in its log."""

    where: str
    size: int = 0
    checksum: str = "-"


async def read(
    pod: PodHandle,
    feed: Subscription,
    *,
    base: str = "base",
    transport: XComTransport = XComTransport.SIDECAR,
    time_limit: float = READ_TIMEOUT,
) -> XComResult:
    """Wait for the end of the pod's base container and return the result. `feed` must be a subscription of its own.

    Takes at most `time_limit` seconds from the call. Raises `XComError`, and `ForbiddenError` when a right is missing.
    """
    reader = _Reader(pod, feed, base)
    try:
        async with timeout(time_limit):
            content = await (reader.read_by_exec() if transport == XComTransport.EXEC else reader.read_by_message())
            if not isinstance(content, bytes):
                return XComResult(content)
            if len(content) > _THREAD_ABOVE:
                return await asyncio.to_thread(parse, content, reader.where)
            return parse(content, reader.where)
    except asyncio.TimeoutError:
        raise XComError(
            f"{reader.where}: {reader.missing} within {time_limit:.0f} s; clear the task to try again"
        ) from None


def parse(content: bytes, where: str) -> XComResult:
    """Parse what the program wrote. Raises `XComError` that begins with `where` and has the position of the mistake."""
    if not content:
        return XComResult(Kind.EMPTY)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise XComError(
            f"{where}: {RESULT_PATH} is not valid UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}; "
            "write the result as JSON in UTF-8"
        ) from None
    if not text.strip():
        return XComResult(Kind.EMPTY)
    try:
        return XComResult(Kind.VALUE, text, result_json.load(text))
    except json.JSONDecodeError as error:
        raise XComError(
            f"{where}: {RESULT_PATH} is not valid JSON: {error.msg} at line {error.lineno} column {error.colno} "
            f"(character {error.pos} of {len(text)}); write one JSON value, for example with json.dump()"
        ) from None
    except ValueError as error:
        raise XComError(f"{where}: {RESULT_PATH} has a value that Airflow cannot store: {error}") from None
    except RecursionError:
        raise XComError(f"{where}: {RESULT_PATH} is nested too deeply to be parsed; write flatter JSON") from None


class _Reader:
    """One read of one result."""

    def __init__(self, pod: PodHandle, feed: Subscription, base: str) -> None:
        self._pod, self._feed, self._base = pod, feed, base
        self.where = f"XCom of pod {pod}"
        self.missing = "the pod was not seen"
        """What has not happened yet, for the error when it does not happen in time."""

    async def read_by_message(self) -> bytes | Kind:
        """Read the native sidecar's termination message, and its log where the message says so."""
        self.missing = f"container {CONTAINER} did not hand the result over"
        message = await self._termination_message()
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

    async def read_by_exec(self) -> bytes | Kind:
        """Read the result through the classic sidecar, then let that sidecar exit."""
        self.missing = f"container {CONTAINER} did not run"
        await self._wait_until(lambda state: state.verdict.ended and _is_sidecar_running(state))
        self.missing = f"no whole answer arrived from container {CONTAINER}"
        content = await self._retry(self._exec_once)
        with suppress(ApiError):  # it ends with the pod anyway
            await self._exec(done_script())
        return content

    async def _termination_message(self) -> str:
        """Wait for the base container's end and then for the sidecar's, and return the sidecar's message."""
        await self._wait_until(lambda state: state.verdict.ended)
        with suppress(asyncio.TimeoutError):
            async with timeout(COMPANION_GRACE):
                await self._wait_until(lambda state: not state.running_main_containers)
        running = self._state(self._feed.view).running_main_containers
        if running and not self._feed.view.presence.final:
            await self._stop_pod(running)
        state = await self._wait_until(lambda state: _message_of(state) is not None)
        return _message_of(state) or ""

    async def _stop_pod(self, running: tuple[str, ...]) -> None:
        """Stop all containers.

        The kubelet stops a native sidecar only when all main containers have ended, so one that never ends would
        withhold the result for ever.
        """
        log.info("%s: stopping container %s, which withholds the result", self.where, ", ".join(running))
        with suppress(NotFoundError, ConflictError):
            await self._pod.patch(STOP)

    async def _wait_until(self, condition: Callable[[PodState], bool]) -> PodState:
        """Wait until the pod meets the condition. Raises `XComError` when it no longer can."""
        while True:
            view = self._feed.view
            state = self._state(view)
            if condition(state):
                return state
            if view.presence.final or state.phase in TERMINAL_PHASES:
                raise self._never(state, gone=view.presence.final)
            await self._feed.next()

    def _state(self, view: View) -> PodState:
        return assess(view.pod, self._base, gone=view.presence.final)

    def _never(self, state: PodState, *, gone: bool) -> XComError:
        sidecar = state.container(CONTAINER)
        if sidecar is None and state.containers:
            return XComError(
                f"{self.where}: the pod has no container {CONTAINER}; was it built with do_xcom_push=True?"
            )
        if sidecar is not None and sidecar.exit_code is not None:
            how = f"ended with exit code {sidecar.exit_code} ({sidecar.reason}) and left no result"
            return XComError(f"{self.where}: container {CONTAINER} {how}; does the image {sidecar.image} have a shell?")
        if gone:
            return XComError(f"{self.where}: the pod was gone ({state.reason}) before its result was handed over")
        return XComError(f"{self.where}: container {CONTAINER} never ran, pod {state.phase} ({state.reason})")

    def _header(self, line: bytes) -> _Header:
        header = _header(line)
        if header is None:
            raise XComError(f"{self.where}: container {CONTAINER} left {line[:80]!r}, which kpo-async does not write")
        if header.where == "irregular":
            raise XComError(
                f"{self.where}: {RESULT_PATH} is not a file but a directory or the like; write a file of this name"
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
        """Read the frame in the sidecar's log until it arrives whole."""
        self.missing = f"{header.size} bytes did not arrive whole from the log of container {CONTAINER}"

        async def once() -> bytes | None:
            async with self._pod.log(CONTAINER, timestamps=False, idle_timeout=10.0) as chunks:
                return await _unpack(b"".join([chunk async for chunk in chunks]), header)

        return await self._retry(once)

    async def _exec_once(self) -> bytes | Kind | None:
        """Read the result from the classic sidecar once; None when it arrived truncated."""
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
        return await self._pod.exec(CONTAINER, ["sh", "-c", script])

    async def _retry(self, attempt: Callable[[], Awaitable[bytes | Kind | None]]) -> bytes | Kind:
        """Repeat `attempt` until its result is whole. Raises the errors that another attempt would meet again."""
        failures = 0
        while True:
            with suppress(UnreachableError, ServerError, ThrottledError):
                if (found := await attempt()) is not None:
                    return found
            failures += 1
            await asyncio.sleep(BACKOFF.delay(failures))


def _message_of(state: PodState) -> str | None:
    """Return the sidecar's message; None while it has not ended, or when it crashed and left another text."""
    sidecar = state.container(CONTAINER)
    if sidecar is None or sidecar.exit_code is None or not sidecar.message.startswith(MARK):
        return None
    return sidecar.message


def _is_sidecar_running(state: PodState) -> bool:
    sidecar = state.container(CONTAINER)
    return sidecar is not None and sidecar.started and not sidecar.ended


def _header(line: bytes) -> _Header | None:
    """Parse `kpo-async/1 WHERE [SIZE SHA256]`; None when the line is something else."""
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
    """Return the content that `header` announces from the frame in a log; None when it is not whole."""
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
