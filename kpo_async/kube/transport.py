"""One HTTP exchange with the API server: connections, TLS, proxy, credentials.

Calls, watches and logs have connection pools of their own, so that a thousand open streams never keep a call waiting.
All share one SSLContext, built in a thread: loading the CA bundle takes milliseconds that an event loop does not have.
Knows nothing of retries, except that a 401 is answered by one refresh of the credentials.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp

from kpo_async.compat import timeout_at
from kpo_async.kube.config import ClusterConfig
from kpo_async.kube.credentials import Grant, open_credential
from kpo_async.kube.errors import TRANSPORT_ERRORS, Action, from_response, from_transport

CONNECT_TIMEOUT = 8.0
"""Seconds for TCP and TLS, so that a black-holed address is tried more than once within a call's budget."""
READ_BUFFER = 2**18
"""Bytes buffered per stream before the server is held back; a 1.5 MB object arrives in a few reads."""
_ERROR_BODY = 64 * 1024


class Pool(Enum):
    """Which connections an exchange uses."""

    CALLS = "calls"
    WATCH = "watch"
    LOGS = "logs"


class Transport:
    """The connections of one client. Close it."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._credential = open_credential(config.user)
        self._sessions = {pool: _session(config, pool) for pool in Pool}
        self._tls: tuple[Grant, ssl.SSLContext] | None = None
        self._tls_lock = asyncio.Lock()

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    @asynccontextmanager
    async def exchange(
        self,
        action: Action,
        method: str,
        path: str,
        *,
        pool: Pool,
        deadline: float,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        idle_timeout: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response whose headers came before `deadline` (loop time).

        `idle_timeout`: seconds without a byte of the body before the exchange counts as broken.
        Raises the `ApiError` that fits; also when the body is read inside the block.
        """
        options: dict[str, Any] = {
            "params": query,
            "data": body,
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=idle_timeout),
        }
        try:
            response = await self._send(method, path, pool, deadline, dict(headers or {}), options)
            async with response:
                if response.status >= 400:
                    content = await response.content.read(_ERROR_BODY)
                    raise from_response(action, self._config.server, response.status, content, _retry_after(response))
                yield response
        except TRANSPORT_ERRORS as error:
            raise from_transport(action, self._config.server, error) from error

    async def _send(
        self, method: str, path: str, pool: Pool, deadline: float, headers: dict[str, str], options: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        async with timeout_at(deadline):
            grant = await self._credential.grant()
            response = await self._send_as(grant, method, path, pool, headers, options)
            if response.status != 401:
                return response
            response.close()
            grant = await self._credential.replace(grant)
            return await self._send_as(grant, method, path, pool, headers, options)

    async def _send_as(
        self, grant: Grant, method: str, path: str, pool: Pool, headers: dict[str, str], options: dict[str, Any]
    ) -> aiohttp.ClientResponse:
        if grant.authorization:
            headers = {**headers, "Authorization": grant.authorization}
        return await self._sessions[pool].request(
            method,
            self._config.server.rstrip("/") + path,
            headers=headers,
            ssl=await self._context(grant),
            server_hostname=self._config.tls_server_name,
            proxy=self._config.proxy,
            allow_redirects=False,
            **options,
        )

    async def _context(self, grant: Grant) -> ssl.SSLContext:
        async with self._tls_lock:
            if self._tls is None or self._tls[0].certificate != grant.certificate:
                self._tls = (grant, await asyncio.to_thread(_build_context, self._config, grant))
            return self._tls[1]


def _build_context(config: ClusterConfig, grant: Grant) -> ssl.SSLContext:
    if config.ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.create_default_context(cadata=config.ca.decode())
    if not config.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if grant.certificate:
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
            certificate.write_bytes(grant.certificate.certificate)
            key.touch(0o600)
            key.write_bytes(grant.certificate.key)
            context.load_cert_chain(certificate, key)
    return context


def _session(config: ClusterConfig, pool: Pool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=100 if pool is Pool.CALLS else 0,
        resolver=aiohttp.ThreadedResolver(),
        socket_factory=_keepalive_socket if config.tcp_keepalive else None,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "kpo-async", "Accept": "application/json"},
        read_bufsize=READ_BUFFER,
        auto_decompress=True,
    )


def _keepalive_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None
