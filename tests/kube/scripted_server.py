"""An HTTP server on a loopback port that sends the replies of a script, one for each request.

For what a real API server does rarely or never on request: refusals, garbage, silence, cut lines, cut connections.

    async with scripted(ok(), refuse(401)) as server, server.client() as client:
        ...
"""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from kpo_async.compat import Self
from kpo_async.kube.auth import ClusterConfig, CredentialSource, StaticCredentials
from kpo_async.kube.client import Client

Json = dict[str, Any]
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request as the server received it. `at` is loop time."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any
    at: float


class ScriptedServer:
    """Sends the replies of `script`, and its last one over and over."""

    def __init__(self, *script: Reply, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.script = list(script)
        self.requests: list[Received] = []
        self.open = 0
        """How many requests are being answered."""
        self.url = ""
        self._context = context
        self._host = host

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve while the block lasts."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, self._host, 0, ssl_context=self._context).start()
        scheme = "https" if self._context else "http"
        self.url = f"{scheme}://{self._host}:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def config(self, credentials: CredentialSource | None = None, **options: Any) -> ClusterConfig:
        """The configuration of a client of this server."""
        return ClusterConfig(server=self.url, credentials=credentials or StaticCredentials(), **options)

    @asynccontextmanager
    async def client(self, credentials: CredentialSource | None = None, **options: Any) -> AsyncIterator[Client]:
        """A client of this server, while the block lasts."""
        async with Client(self.config(credentials), **options) as client:
            yield client

    def reply_to(self, request: web.Request) -> Reply:
        """The next reply of the script."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        now, query = asyncio.get_running_loop().time(), list(request.query.items())
        self.requests.append(Received(request.method, request.raw_path, query, dict(request.headers), body, now))
        self.open += 1
        try:
            return await self.reply_to(request)(request)
        finally:
            self.open -= 1


class ScriptedPods(ScriptedServer):
    """An API server for `pods`: lists and watches of a selection follow `script`. After its end they hang."""

    def __init__(self, *script: Reply) -> None:
        super().__init__(*script)
        self.single_watches: dict[str, list[Reply]] = {}
        """Scripts for lists and watches of one pod by `fieldSelector`, by its name."""
        self.pods: dict[str, Reply] = {}
        """Replies to GETs of one pod, by its name."""

    @property
    def queries(self) -> list[dict[str, str]]:
        """The query parameters of all lists and watches."""
        return [dict(request.query) for request in self.lists_and_watches]

    @property
    def times(self) -> list[float]:
        """The loop time of all lists and watches."""
        return [request.at for request in self.lists_and_watches]

    @property
    def lists_and_watches(self) -> list[Received]:
        return [request for request in self.requests if not _name_of(request.path)]

    @property
    def gets(self) -> list[str]:
        """The names in all GETs of one pod."""
        return [name for request in self.requests if (name := _name_of(request.path))]

    @property
    def get_times(self) -> list[float]:
        """The loop time of all GETs of one pod."""
        return [request.at for request in self.requests if _name_of(request.path)]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """A client of this server, which runs while the block lasts."""
        async with self.running(), Client(self.config(identity=self.url), retry_budget=2.0) as client:
            yield client

    def reply_to(self, request: web.Request) -> Reply:
        if name := _name_of(request.path):
            return self.pods.get(name, refuse(404, "NotFound"))
        _, _, name = request.query.get("fieldSelector", "").partition("metadata.name=")
        script = self.single_watches.get(name, []) if name else self.script
        return script.pop(0) if script else stream()


def _name_of(path: str) -> str:
    """The name of the pod that a GET is about."""
    _, _, name = path.partition("?")[0].partition("/pods/")
    return name


@asynccontextmanager
async def scripted(
    *script: Reply, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[ScriptedServer]:
    """A server with this script, while the block lasts."""
    async with ScriptedServer(*script, context=context, host=host).running() as server:
        yield server


# Replies


def ok(body: Any = None, *, warnings: Sequence[str] = ()) -> Reply:
    """200 with JSON, and with these `Warning` headers."""

    async def reply(request: web.Request) -> web.StreamResponse:
        headers = CIMultiDict(("Warning", warning) for warning in warnings)
        return web.json_response({} if body is None else body, headers=headers)

    return reply


def refuse(code: int, reason: str = "", message: str = "", **headers: str) -> Reply:
    """An error with a Status, as an API server writes it. `Retry_After="7"` is a header."""

    async def reply(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(status(code, reason, message), status=code, headers=named)

    return reply


def page(code: int, text: str) -> Reply:
    """The error page of a proxy or load balancer."""

    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text=text, content_type="text/html")

    return reply


def listing(version: int | str, *pods: Json, token: str = "", zipped: bool = False) -> Reply:
    """A list of pods, encoded as Go does."""
    metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(pods)}
    data = json.dumps(body, separators=(",", ":")).encode() + b"\n"

    async def reply(request: web.Request) -> web.StreamResponse:
        if zipped and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})
        return web.Response(body=data)

    return reply


def stream(*chunks: bytes | float, end: str = "hang") -> Reply:
    """Headers, then the bytes among `chunks`, one write each, with pauses for the seconds among them.

    `end`: "hang", "close" cleanly, or "cut" the connection.
    """

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            if isinstance(chunk, bytes):
                await response.write(chunk)
            else:
                await asyncio.sleep(chunk)
        if end == "hang":
            await asyncio.Event().wait()
        if end == "cut":
            # A reset overtakes what has not been read yet: give the client a turn to read it.
            await asyncio.sleep(0.001)
            _reset(request)
        return response

    return reply


def cut() -> Reply:
    """A connection that is reset before the headers."""

    async def reply(request: web.Request) -> web.StreamResponse:
        _reset(request)
        return web.StreamResponse()

    return reply


def silence() -> Reply:
    """A connection that stays open without a byte."""

    async def reply(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return reply


def _reset(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


# Objects and lines of a watch


def status(code: int, reason: str = "", message: str = "") -> Json:
    """A Status, without a reason if there is none."""
    described = {"reason": reason} if reason else {}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "message": message or reason or "unexplained", **described}  # fmt: skip


def pod(name: str, version: int | str, *, uid: str = "", phase: str = "Running", **metadata: Any) -> Json:
    """A pod as a server shows it."""
    meta = {"name": name, "namespace": "ns", "uid": uid or f"uid-{name}", "resourceVersion": str(version), **metadata}
    return {"metadata": meta, "spec": {"containers": [{"name": "base"}]}, "status": {"phase": phase}}


def line(kind: str, thing: Json) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"


def added(*args: Any, **kwargs: Any) -> bytes:
    return line("ADDED", pod(*args, **kwargs))


def modified(*args: Any, **kwargs: Any) -> bytes:
    return line("MODIFIED", pod(*args, **kwargs))


def deleted(*args: Any, **kwargs: Any) -> bytes:
    return line("DELETED", pod(*args, **kwargs))


def bookmark(version: int | str, **metadata: Any) -> bytes:
    """A bookmark with all its oddities."""
    meta = {"resourceVersion": str(version), "creationTimestamp": None, **metadata}
    return line("BOOKMARK", {"kind": "Pod", "metadata": meta, "spec": {"containers": None}, "status": {}})


def marker(version: int | str) -> bytes:
    """The bookmark after the last initial event."""
    return bookmark(version, annotations={"k8s.io/initial-events-end": "true"})


def error(code: int, reason: str = "") -> bytes:
    """An ERROR line."""
    return line("ERROR", status(code, reason))
