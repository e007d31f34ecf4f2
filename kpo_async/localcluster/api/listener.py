"""The listening socket: it can be closed and opened again on the same port, and can reset every connection."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 1.0
_BACKLOG = 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """Serves a handler on a loopback port."""

    def __init__(self, handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Port 0 takes a free port, and keeps it over `refuse` and `open`."""
        self.port = port
        self._tls = tls
        self._socket: socket.socket | None = None
        # A handler is cancelled when its client disconnects: a watch must not wait for its next event to notice.
        self._server = web.Server(handler, handler_cancellation=True, access_log=None, tcp_keepalive=True)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._site: web.SockSite | None = None

    @property
    def url(self) -> str:
        """The server's address."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def reserve(self) -> None:
        """Bind the port without listening yet. Raises OSError when it is in use."""
        if self._socket is None:
            bound = socket.socket()
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                bound.bind((HOST, self.port))
            except OSError:
                bound.close()
                raise
            self._socket = bound
            self.port = bound.getsockname()[1]

    async def open(self) -> None:
        """Accept connections. Raises OSError when the port is in use."""
        self.reserve()
        if self._runner.server is None:
            await self._runner.setup()
        if self._site is None and self._socket is not None:
            self._site = web.SockSite(self._runner, self._socket, ssl_context=self._tls, backlog=_BACKLOG)
            await self._site.start()

    async def refuse(self) -> None:
        """Accept no further connections; open ones stay open."""
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
        """Accept no further connections and end the open ones."""
        await self.refuse()
        await self._runner.cleanup()
