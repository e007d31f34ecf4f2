"""The listening socket: can be closed and opened again on the same port, and can cut every connection."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 1.0

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
        self._server = _Server(handler)
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections have been accepted so far."""
        return self._server.accepted

    async def open(self) -> None:
        """Accept connections. Raises OSError when the port is taken."""
        if self._runner.server is None:
            await self._runner.setup()
        if self._site is None:
            site = web.TCPSite(self._runner, HOST, self.port, ssl_context=self._tls, backlog=1024, reuse_address=True)
            await site.start()
            self._site = site
            self.port = self._runner.addresses[0][1]

    async def refuse(self) -> None:
        """Accept no further connections; those that are open stay."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    def cut(self) -> None:
        """Reset every open connection."""
        for connection in tuple(self._server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    async def close(self) -> None:
        """Accept nothing more and end what is open."""
        await self.refuse()
        await self._runner.cleanup()
