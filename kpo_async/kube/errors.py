"""What went wrong with a request, said in our error tree and in one sentence.

The only place that maps HTTP answers and transport failures. A message names the verb, the resource, the object, the
server's own reason, and what to do; the original exception stays attached as the cause.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

import aiohttp
import msgspec

from kpo_async.exceptions import (
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ServerError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
)
from kpo_async.resources import Status

TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ssl.SSLError)
"""Everything aiohttp raises for an exchange that ended without a whole HTTP answer."""


@dataclass(frozen=True)
class Action:
    """What was asked of the API server: the subject of every error message."""

    verb: str
    resource: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """`get pods "x" in namespace "y"`."""
        text = f"{self.verb} {self.resource}"
        if self.name:
            text += f' "{self.name}"'
        if self.namespace:
            text += f' in namespace "{self.namespace}"'
        return text


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    413: InvalidError,
    422: InvalidError,
    429: ThrottledError,
}


def from_response(action: Action, server: str, code: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """The error for an HTTP answer that is not a success."""
    status = decode_status(body)
    kind = _BY_STATUS.get(code, ServerError if code >= 500 else ApiError)
    return kind(
        f"{action}: HTTP {code} {status.reason}: {status.message}",
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        code=code,
        reason=status.reason,
        retry_after=retry_after,
    )


def from_transport(action: Action, server: str, error: BaseException) -> UnreachableError:
    """The error for an exchange that brought no whole HTTP answer."""
    return UnreachableError(
        f"{action}: cannot reach {server}: {error!r}",
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
    )


def decode_status(body: bytes) -> Status:
    """The server's Status object, or one whose message is the beginning of whatever else it sent."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        return Status(message=body[:300].decode("utf-8", "replace").strip())
