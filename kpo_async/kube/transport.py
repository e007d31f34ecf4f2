"""One HTTP exchange with the API server: connections, TLS, proxy, credentials.

Calls, watches and logs have separate connection pools, so that a thousand open streams never keep a call waiting. All
share one SSLContext, built in a thread: loading CAs takes milliseconds, for which an event loop must not stand still.
Nothing is retried here, except that after a 401 the credentials are renewed once.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any

import aiohttp

from kpo_async._version import __version__
from kpo_async.compat import Self, timeout_at
from kpo_async.exceptions import ApiError, UnreachableError
from kpo_async.kube.auth import ClientCertificate, ClusterConfig, CredentialError, Grant, GrantCache, build_context
from kpo_async.kube.errors import TRANSPORT_ERRORS, Action, Unreachable, from_credentials, from_response, from_transport
from kpo_async.kube.server_clock import ServerClock
from kpo_async.metrics import API_REQUESTS, count

CONNECT_TIMEOUT = 8.0
"""Seconds for TCP and TLS, so that a black-holed address is tried more than once within a call's budget."""
READ_BUFFER = 2**19
"""Bytes that a stream may buffer before the server is held back by TCP; an object takes up to 1.5 MB."""
LOG_READ_BUFFER = 2**15
"""The same for a log: there may be hundreds, each with a full buffer for as long as it runs."""
WEBSOCKET_CLOSE_TIMEOUT = 1.0
"""Seconds to wait for the server's close frame: a cancelled exec must not wait for a dead connection."""
WEBSOCKET_HEARTBEAT = 30.0
"""Seconds between pings; a half-open websocket is noticed after one and a half of them."""
_ERROR_BODY = 2**16
_NO_UPGRADE = b'{"message": "no websocket was opened; is the container running?", "reason": "NotUpgraded"}'
_MAX_CALL_CONNECTIONS = 32


class Pool(Enum):
    """The connection pool that an exchange uses."""

    CALLS = "calls"
    WATCH = "watch"
    LOGS = "logs"


@dataclass(frozen=True)
class Request:
    """One HTTP request, below the server's address."""

    action: Action
    method: str
    path: str
    pool: Pool
    query: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    content_type: str = "application/json"
    idle_timeout: float | None = None
    """Seconds without a byte of the response until the exchange counts as broken."""


class Response:
    """A successful response: its body as a whole, or chunk by chunk as it arrives."""

    def __init__(self, action: Action, response: aiohttp.ClientResponse) -> None:
        self._action = action
        self._response = response

    @property
    def warnings(self) -> Sequence[str]:
        """The response's `Warning` headers."""
        return self._response.headers.getall("Warning", ())

    async def read(self) -> bytes:
        """Return the whole body. Raises `UnreachableError` when the connection breaks before its end."""
        try:
            return await self._response.read()
        except TRANSPORT_ERRORS as error:
            raise from_transport(self._action, error) from error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        # An iterator rather than a generator: a loop that is left early leaves nothing to close.
        try:
            chunk = await self._response.content.readany()
        except TRANSPORT_ERRORS as error:
            raise from_transport(self._action, error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Transport:
    """The connections of one client to one API server. Close it."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._base = config.server.rstrip("/")
        self._grants = GrantCache(config.credentials)
        self._sessions = {pool: _open_session(pool, config.tcp_keepalive) for pool in Pool}
        self._tls: _Tls | None = None
        self._tls_lock = asyncio.Lock()
        self.clock = ServerClock()

    async def close(self) -> None:
        """Close all connections; exchanges under way fail."""
        await self._grants.close()
        for session in self._sessions.values():
            await session.close()
        # Aborted transports are closed in the loop's next turn, which may be its last.
        await asyncio.sleep(0)

    @asynccontextmanager
    async def exchange(self, request: Request, deadline: float) -> AsyncIterator[Response]:
        """Send `request` and yield its response once the headers have arrived.

        Raises `ApiError` for a response that is not a success, and when `deadline` (loop time) passes before headers.
        """
        try:
            response = await self._send(request, deadline)
        except CredentialError as error:
            raise from_credentials(request.action, str(error)) from error
        try:
            if response.status >= 300:
                raise await _refusal(request.action, response)
            yield Response(request.action, response)
        finally:
            _drop(response)

    @asynccontextmanager
    async def websocket(
        self, request: Request, protocol: str, deadline: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a websocket that speaks `protocol`. Raises `ApiError`."""
        try:
            socket = await self._upgrade(request, protocol, deadline)
        except CredentialError as error:
            raise from_credentials(request.action, str(error)) from error
        except aiohttp.WSServerHandshakeError as error:
            raise await self._upgrade_refusal(request, error.status, deadline) from error
        except TRANSPORT_ERRORS as error:
            raise self._unreachable(request.action, error) from error
        try:
            yield socket
        finally:
            await socket.close()

    async def _upgrade(self, request: Request, protocol: str, deadline: float) -> aiohttp.ClientWebSocketResponse:
        grant = await self._grants.grant()
        try:
            return await self._upgrade_as(grant, request, protocol, deadline)
        except aiohttp.WSServerHandshakeError as error:
            if error.status != 401:
                raise
        return await self._upgrade_as(await self._grants.replace(grant), request, protocol, deadline)

    async def _upgrade_as(
        self, grant: Grant, request: Request, protocol: str, deadline: float
    ) -> aiohttp.ClientWebSocketResponse:
        context = await self._context(grant.certificate)
        async with timeout_at(deadline):
            socket: aiohttp.ClientWebSocketResponse = await self._sessions[request.pool].ws_connect(
                self._base + request.path,
                params=request.query,
                protocols=[protocol],
                heartbeat=WEBSOCKET_HEARTBEAT,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=WEBSOCKET_CLOSE_TIMEOUT),
                **self._options(grant, context, request),
            )
            self._count(request.action, "101")
            return socket

    async def _upgrade_refusal(self, request: Request, code: int, deadline: float) -> ApiError:
        """The error of a failed upgrade. aiohttp drops the response's body, so ask again without an upgrade."""
        try:
            async with self.exchange(request, deadline):
                pass
        except ApiError as error:
            if error.code == code:
                return error
        return from_response(request.action, code, _NO_UPGRADE)

    async def _send(self, request: Request, deadline: float) -> aiohttp.ClientResponse:
        grant = await self._grants.grant()
        response = await self._send_as(grant, request, deadline)
        if response.status != 401:
            return response
        response.close()
        return await self._send_as(await self._grants.replace(grant), request, deadline)

    async def _send_as(self, grant: Grant, request: Request, deadline: float) -> aiohttp.ClientResponse:
        try:
            context = await self._context(grant.certificate)
            sent_at = datetime.now(timezone.utc)
            async with timeout_at(deadline):
                response = await self._sessions[request.pool].request(
                    request.method,
                    self._base + request.path,
                    params=request.query,
                    data=request.body,
                    timeout=aiohttp.ClientTimeout(None, None, request.idle_timeout, CONNECT_TIMEOUT),
                    allow_redirects=False,
                    **self._options(grant, context, request),
                )
        except TRANSPORT_ERRORS as error:
            raise self._unreachable(request.action, error) from error
        self._count(request.action, str(response.status))
        self.clock.read(response.headers.get("Date"), sent_at, datetime.now(timezone.utc))
        return response

    def _options(self, grant: Grant, context: ssl.SSLContext, request: Request) -> dict[str, Any]:
        headers = list(self._config.headers)
        if grant.authorization:
            headers.append(("Authorization", grant.authorization))
        if request.body is not None:
            headers.append(("Content-Type", request.content_type))
        if request.action.verb == "watch":
            # A compressing proxy may hold events back until it has a full block.
            headers.append(("Accept-Encoding", "identity"))
        return {
            "headers": headers,
            "ssl": context,
            "server_hostname": self._config.tls_server_name,
            "proxy": self._config.proxy,
        }

    def _unreachable(self, action: Action, error: BaseException) -> UnreachableError:
        described = from_transport(action, error)
        self._count(action, described.reason)
        if described.reason == Unreachable.CERTIFICATE:
            self._tls = None  # The file of the CA may have been replaced.
        return described

    def _count(self, action: Action, code: str) -> None:
        count(API_REQUESTS, self._config.host, action.verb, action.resource, code)

    async def _context(self, certificate: ClientCertificate | None) -> ssl.SSLContext:
        if self._tls is None or self._tls.certificate != certificate:
            async with self._tls_lock:
                if self._tls is None or self._tls.certificate != certificate:
                    self._tls = _Tls(certificate, await _build_in_thread(self._config, certificate))
        return self._tls.context


@dataclass(frozen=True)
class _Tls:
    certificate: ClientCertificate | None
    context: ssl.SSLContext


async def _build_in_thread(config: ClusterConfig, certificate: ClientCertificate | None) -> ssl.SSLContext:
    try:
        return await asyncio.to_thread(build_context, config, certificate)
    except (OSError, ValueError) as error:
        raise CredentialError(f"the CA or the client certificate for {config.server} is unusable: {error}") from error


async def _refusal(action: Action, response: aiohttp.ClientResponse) -> Exception:
    try:
        body = await response.content.read(_ERROR_BODY)
    except TRANSPORT_ERRORS:
        body = b""
    seconds = response.headers.get("Retry-After", "")
    return from_response(action, response.status, body, float(seconds) if seconds.isdecimal() else None)


def _open_session(pool: Pool, keepalive: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=_MAX_CALL_CONNECTIONS if pool is Pool.CALLS else 0,
        resolver=aiohttp.ThreadedResolver(),
        keepalive_timeout=30,
        socket_factory=_keepalive_socket if keepalive else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"kpo-async/{__version__}", "Accept": "application/json, */*"},
        read_bufsize=LOG_READ_BUFFER if pool is Pool.LOGS else READ_BUFFER,
    )


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A socket that fails within 70 s after its peer has vanished, and whose probes keep NAT entries alive."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _drop(response: aiohttp.ClientResponse) -> None:
    """Abort the connection of a response that was not read to its end: a TLS shutdown would wait for the peer.

    A connection whose response was read to its end is in the pool again already.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
