"""An API server that answers `pods` requests with what a test tells it, one answer after the other.

For what a real server does rarely or never on request: cut lines, silence, odd versions. When the script is at its end
the server hangs, as one that has nothing to say does.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client

Json = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, version: int | str, *, uid: str = "", phase: str = "Running", **metadata: Any) -> Json:
    """A pod as a server would show it."""
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


def failure(code: int, reason: str = "", message: str = "") -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, "code": code}  # fmt: skip


def error(code: int, reason: str = "") -> bytes:
    """An ERROR line."""
    return line("ERROR", failure(code, reason))


def refuse(code: int, reason: str = "", **headers: str) -> Answer:
    """An HTTP error."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = failure(code, reason) if reason else {"kind": "Status", "message": "unexplained", "code": code}
        return web.json_response(body, status=code, headers=headers)

    return answer


def listing(version: int | str, *pods: Json, token: str = "", zipped: bool = False) -> Answer:
    """A LIST answer, encoded as Go does."""
    metadata = {"resourceVersion": str(version)} | ({"continue": token} if token else {})
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(pods)}
    data = json.dumps(body, separators=(",", ":")).encode() + b"\n"

    async def answer(request: web.Request) -> web.StreamResponse:
        if zipped and "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.compress(data), headers={"Content-Encoding": "gzip"})
        return web.Response(body=data)

    return answer


def stream(*chunks: bytes | float, end: str = "hang") -> Answer:
    """A watch that sends the bytes among `chunks`, one write each, and pauses for the seconds among them.

    `end`: "hang", "close" cleanly, or "cut" the connection.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
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
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


class ScriptedServer:
    """Plays `script`. `asked` are the queries it got, `asked_at` when."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.asked: list[dict[str, str]] = []
        self.asked_at: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.singles: dict[str, list[Answer]] = {}
        """Scripts for requests about one pod by `fieldSelector`, by its name."""
        self.gets: dict[str, Answer] = {}
        """Answers to GETs of one pod, by its name."""
        self.got: list[str] = []
        self.got_at: list[float] = []
        self.open = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.asked_at.append(asyncio.get_running_loop().time())
        self.headers.append(dict(request.headers))
        _, _, single = request.query.get("fieldSelector", "").partition("metadata.name=")
        script = self.singles.get(single, []) if single else self.script
        answer = script.pop(0) if script else stream()
        self.open += 1
        try:
            return await answer(request)
        finally:
            self.open -= 1

    async def get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.got.append(name)
        self.got_at.append(asyncio.get_running_loop().time())
        return await self.gets.get(name, refuse(404, "NotFound"))(request)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Client]:
        """A client of this server while it runs."""
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/pods", self.answer)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}", self.get)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Client(ClusterConfig(server=self.url, identity=self.url), retry_budget=2.0) as client:
                yield client
        finally:
            await runner.cleanup()


def found(thing: Json) -> Answer:
    """A GET that finds `thing`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(thing)

    return answer
