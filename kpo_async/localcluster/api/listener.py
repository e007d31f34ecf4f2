"""The listening socket: can be closed and opened again on the same port, and can cut every connection."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 1.0
_BACKLOG = 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Server(web.Server):
    """Counts the connections it accepts."""

    def __init__(self, handler: Handler) -> None:
        # A handler is cancelled when its client goes: a watch must not wait for its next event to notice.
        super().__init__(handler, handler_cancellation=True, access_log=None, tcp_keepalive=True)
        self.accepted = 0

    def __call__(self) -> RequestHandler:
        self.accepted += 1
        return super().__call__()


class Listener:
    """Serves a handler on a loopback port."""

    def __init__(self, handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Port 0 takes a free one, and keeps it over `close` and `open`."""
        self.port = port
        self._tls = tls
        self._socket: socket.socket | None = None
        self._server = _Server(handler)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._site: web.SockSite | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections have been accepted so far."""
        return self._server.accepted

    def reserve(self) -> None:
        """Take the port without listening yet. Raises OSError when it is taken."""
        if self._socket is None:
            taken = socket.socket()
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind((HOST, self.port))
            except OSError:
                taken.close()
                raise
            self._socket = taken
            self.port = taken.getsockname()[1]

    async def open(self) -> None:
        """Accept connections. Raises OSError when the port is taken."""
        self.reserve()
        if self._runner.server is None:
            await self._runner.setup()
        if self._site is None and self._socket is not None:
            self._site = web.SockSite(self._runner, self._socket, ssl_context=self._tls, backlog=_BACKLOG)
            await self._site.start()

    async def refuse(self) -> None:
        """Accept no further connections; those that are open stay."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self._server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """Accept nothing more and end what is open."""
        await self.refuse()
        await self._runner.cleanup()
