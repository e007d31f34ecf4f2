"""An HTTP server on a loopback port that answers any request with what a test scripted, one answer after the other.

For what a real API server does rarely or never on request: refusals, garbage, silence, cut connections. At the end of
the script the last answer is repeated.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.auth.credentials import CredentialSource, StaticCredentials
from kpo_async.kube.client import Client

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it. `at` is loop time."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class Server:
    """Plays `script` to whoever asks."""

    script: list[Answer]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        now = asyncio.get_running_loop().time()
        query = list(request.query.items())
        self.asked.append(Asked(request.method, request.raw_path, query, dict(request.headers), body, now))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)

    def config(self, credentials: CredentialSource | None = None, **options: Any) -> ClusterConfig:
        return ClusterConfig(server=self.url, credentials=credentials or StaticCredentials(), **options)

    @asynccontextmanager
    async def client(self, credentials: CredentialSource | None = None, **options: Any) -> AsyncIterator[Client]:
        async with Client(self.config(credentials), **options) as client:
            yield client


@asynccontextmanager
async def answering(
    *script: Answer, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """A server with this script while the block lasts."""
    server = Server(list(script))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, host, 0, ssl_context=context).start()
    scheme = "https" if context else "http"
    server.url = f"{scheme}://{host}:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def ok(body: Any = None) -> Answer:
    """200 with JSON."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({} if body is None else body)

    return answer


def refuse(code: int, reason: str = "", message: str = "", **headers: str) -> Answer:
    """A refusal with a Status, as the API server writes them."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}

    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({**status, "message": message or reason}, status=code, headers=named)

    return answer


def page(code: int, text: str) -> Answer:
    """What a proxy or load balancer answers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="text/html")

    return answer


def cut(*chunks: bytes) -> Answer:
    """Break the connection, before the headers or after some of the body."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if chunks:
            await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.001)
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def stream(*chunks: bytes) -> Answer:
    """These chunks, one by one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.001)
        return response

    return answer


def hang(*chunks: bytes) -> Answer:
    """These chunks and then silence, before or after the headers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if chunks:
            await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        await asyncio.Event().wait()
        return response

    return answer
