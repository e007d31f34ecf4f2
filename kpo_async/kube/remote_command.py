"""Collect the result of an `exec` from its websocket: output and exit code.

Protocol v4.channel.k8s.io: the first byte of each message is its channel; channel 3 carries one Status at the end.
aiohttp speaks websocket. kubernetes_asyncio's `WsApiClient` is not used: it opens a session of its own, which ignores
`proxy-url`, `tls-server-name` and the CA's data, has no time limit, and merges stdout and stderr as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from kpo_async.exceptions import ApiError
from kpo_async.kube.errors import TRANSPORT_ERRORS, Action, from_response, from_transport

PROTOCOL = "v4.channel.k8s.io"
_STDOUT, _STDERR, _STATUS = 1, 2, 3


@dataclass(frozen=True)
class ExecResult:
    """The output and the exit code of a command in a container."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class _Status(msgspec.Struct):
    status: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


async def collect(socket: aiohttp.ClientWebSocketResponse, action: Action) -> ExecResult:
    """Read until the command has ended. Raises `ApiError` if it could not start or the connection broke."""
    channels = {_STDOUT: bytearray(), _STDERR: bytearray(), _STATUS: bytearray()}
    try:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                channels.setdefault(message.data[0], bytearray()).extend(memoryview(message.data)[1:])
    except TRANSPORT_ERRORS as error:
        raise from_transport(action, error) from error
    status = bytes(channels[_STATUS])
    if not status:
        cause = socket.exception() or ConnectionResetError(0, "it ended before the command did")
        raise from_transport(action, cause) from socket.exception()
    return ExecResult(bytes(channels[_STDOUT]), bytes(channels[_STDERR]), exit_code(status, action))


def exit_code(status: bytes, action: Action) -> int:
    """The command's exit code. Raises `ApiError` if the command never ran or `status` is not a Status."""
    try:
        decoded = msgspec.json.decode(status, type=_Status)
    except msgspec.MsgspecError:
        raise _failed(status, action) from None
    if decoded.status == "Success":
        return 0
    for cause in (decoded.details or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise _failed(status, action, decoded.code)


def _failed(status: bytes, action: Action, code: int = 0) -> ApiError:
    return from_response(action, code or 500, status)
