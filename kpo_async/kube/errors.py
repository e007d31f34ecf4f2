"""Map failed requests to this library's exceptions, with a message of one sentence.

The only module that maps HTTP responses and transport failures. A message names the verb, the resource, the object, the
server's reason, and what to do; the original exception stays attached as the cause. Nothing here waits or retries.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from dataclasses import dataclass

import aiohttp
import msgspec

from kpo_async.api_types import Status
from kpo_async.compat import StrEnum
from kpo_async.exceptions import (
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotStartedError,
    ServerError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
)

TRANSPORT_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError, EOFError)
"""Everything that aiohttp and asyncio raise for an exchange that ended without a complete HTTP response."""


class Unreachable(StrEnum):
    """Why no HTTP response arrived: the `reason` of an `UnreachableError`."""

    REFUSED = "ConnectionRefused"
    NAME = "NameNotResolved"
    CERTIFICATE = "CertificateNotTrusted"
    TLS = "TLSFailed"
    PROXY = "ProxyFailed"
    TIMEOUT = "TimedOut"
    BROKEN = "ConnectionBroken"
    ADDRESS = "AddressInvalid"


@dataclass(frozen=True)
class Action:
    """A request and its API server: the subject of every error message."""

    verb: str
    resource: str
    name: str = ""
    namespace: str = ""
    server: str = ""

    def __str__(self) -> str:
        """For example `get pods "x" in namespace "y"`."""
        name = f' "{self.name}"' if self.name else ""
        namespace = f' in namespace "{self.namespace}"' if self.namespace else ""
        return f"{self.verb} {self.resource}{name}{namespace}"


_BY_CODE: dict[int, type[ApiError]] = {
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
_NOT_STARTED = re.compile(r"is waiting to start|does not have a host assigned")
_RBAC_DENIAL = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) (?:resource|path) "(?P<resource>[^"]*)"')


def from_response(action: Action, code: int, body: bytes, retry_after: float | None = None) -> ApiError:
    """The error for an HTTP response that is not a success. `retry_after`: seconds, from the header."""
    status = decode_status(body)
    kind = _BY_CODE.get(code, ServerError if code >= 500 else ApiError)
    if code == 400 and _NOT_STARTED.search(status.message):
        kind = NotStartedError
    return kind(
        _refusal(action, code, status),
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        code=code,
        reason=status.reason,
        retry_after=_seconds(status, retry_after),
    )


def from_transport(action: Action, error: BaseException) -> UnreachableError:
    """The error for an exchange without a complete HTTP response."""
    reason, cause, advice = _explain(error)
    host = socket.gethostname()
    return UnreachableError(
        f'cannot reach the API server {action.server} from host "{host}" to {action}: {cause}; {advice}',
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        reason=reason,
    )


def from_credentials(action: Action, problem: str) -> UnauthorizedError:
    """The error for credentials that could not be obtained, so that no request was sent."""
    return UnauthorizedError(
        f"cannot {action}: {problem}",
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        reason="NoCredentials",
    )


def decode_status(body: bytes) -> Status:
    """The server's Status object, or one whose message is the beginning of any other body."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        text = " ".join(body[:2048].decode("utf-8", "replace").split())
        return Status(message=text[:200])


def _refusal(action: Action, code: int, status: Status) -> str:
    message = status.message or "no message"
    if code == 401:
        return (
            f"{action.server} rejects the credentials ({action}: {message}), even after they were renewed; "
            "check the token, certificate or plugin in the connection or kubeconfig"
        )
    if code == 403 and (denial := _RBAC_DENIAL.search(message)):
        where = f'namespace "{action.namespace}"' if action.namespace else "the whole cluster"
        return (
            f"{denial['user']} may not {denial['verb']} {denial['resource']} in {where} ({action}); "
            "bind a Role with this verb and resource to it"
        )
    if code in (400, 403, 404, 409, 410, 413, 422, 429):
        return f"{action}: {message}"
    if status.reason or status.code:
        return f"{action}: {action.server} answered HTTP {code} {status.reason}: {message}".replace("  ", " ")
    return (
        f"{action}: HTTP {code} without a Kubernetes status ({message}); "
        f"a proxy or load balancer answered in place of {action.server}, or the address is not an API server's"
    )


def _explain(error: BaseException) -> tuple[Unreachable, str, str]:
    """The cause of a transport failure: its reason, a description, and what to do."""
    address = "check the server's address in the connection or kubeconfig, and the network between"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
        text = getattr(inner, "verify_message", "") or str(inner)
        advice = "give its CA (certificate-authority or ca_cert), or correct the address or tls-server-name"
        return Unreachable.CERTIFICATE, f"its certificate is not trusted ({text})", advice
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        text = getattr(error, "reason", None) or getattr(getattr(error, "os_error", None), "reason", None) or error
        return (
            Unreachable.TLS,
            f"TLS failed ({text})",
            "check that the port speaks TLS and accepts the client certificate",
        )
    if isinstance(error, (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError)):
        advice = "check proxy-url, HTTPS_PROXY and NO_PROXY"
        return Unreachable.PROXY, f"the proxy failed ({_describe(error)})", advice
    if isinstance(error, aiohttp.ClientConnectorDNSError) or isinstance(_root(error), socket.gaierror):
        return Unreachable.NAME, "its name does not resolve", address
    if isinstance(error, asyncio.TimeoutError):
        return Unreachable.TIMEOUT, "no answer in time", address
    if isinstance(_root(error), ConnectionRefusedError):
        return Unreachable.REFUSED, "connection refused", address
    if isinstance(error, aiohttp.InvalidURL):
        return Unreachable.ADDRESS, "this is not a URL", "give it as https://host:port"
    return Unreachable.BROKEN, f"the connection broke ({_describe(error)})", address


def _root(error: BaseException) -> BaseException:
    return error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error


def _describe(error: BaseException) -> str:
    root = _root(error)
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    if isinstance(root, aiohttp.ClientResponseError):
        return f"HTTP {root.status}"
    return type(root).__name__


def _seconds(status: Status, header: float | None) -> float | None:
    """Seconds of the `Retry-After` header, or else of the Status body (`details.retryAfterSeconds`)."""
    if header is not None:
        return header
    seconds = (status.details or {}).get("retryAfterSeconds")
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else None
