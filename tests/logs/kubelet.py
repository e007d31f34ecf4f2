"""A scripted kubelet: serves `pods/log` as an API server does, from logs that a test writes, with faults.

Rotated logs are served as by a real kubelet (pkg/kubelet/kuberuntime/logs/logs.go): a request reads the newest file; a
stream reads the file that it has open to its end, then ends if the container has ended, else goes on with what is the
newest file by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from tests.logs.test_lines import Entry, answer

_WRITE = 64 * 1024


@dataclass
class ContainerLog:
    """The log of one container, and whether that runs."""

    files: list[list[Entry]] = field(default_factory=lambda: [[]])
    """The newest one last. Only that can be requested."""
    written: int = 0
    tail: bytes = b""
    """What comes after the last line end."""
    running: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    step: int = 10**8
    """Nanoseconds between lines."""

    def write(self, *texts: str) -> None:
        for text in texts:
            self.written += 1
            self.files[-1].append(Entry(self.written * self.step, text.encode()))
        self._change()

    def finish(self, tail: str = "") -> None:
        self.tail = f"2026-11-21T09:59:59.999999999Z {tail}".encode() if tail else b""
        self.running = False
        self._change()

    def rotate(self) -> None:
        self.files.append([])
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True)
class Cut:
    """What happens to one answer: `how` after so many bytes."""

    after: int
    how: str
    """"abort" (connection reset), "close" (a clean end), "hang" (silence)."""


class LogKubelet:
    """`logs` by container; `cuts` and `refusals` (HTTP codes) are used up, one for each request."""

    def __init__(self) -> None:
        self.logs: dict[str, ContainerLog] = {}
        self.cuts: deque[Cut] = deque()
        self.refusals: deque[int] = deque()
        self.asked: list[dict[str, str]] = []
        self.asked_at: list[float] = []
        self.open = 0
        self.most_open = 0

    def log(self, container: str = "base") -> ContainerLog:
        return self.logs.setdefault(container, ContainerLog())

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.asked_at.append(asyncio.get_running_loop().time())
        if self.refusals:
            code = self.refusals.popleft()
            body = {"kind": "Status", "code": code, "message": 'container "base" is waiting to start'}
            return web.json_response(body, status=code)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        try:
            return await self._stream(request)
        finally:
            self.open -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        log = self.log(request.query["container"])
        cut = self.cuts.popleft() if self.cuts else None
        response = web.StreamResponse()
        await response.prepare(request)
        file, since = log.files[-1], request.query.get("sinceTime", "")
        sent = before = 0
        while True:
            running, changed = log.running, log.changed
            data = answer(file, since) + (log.tail if file is log.files[-1] else b"")
            end = len(data) if cut is None else min(len(data), cut.after - before)
            while end > sent:
                piece = data[sent : min(end, sent + _WRITE)]
                await response.write(piece)
                sent += len(piece)
            if cut is not None and before + sent >= cut.after:
                return await self._cut(request, response, cut.how)
            if not running or request.query.get("follow") != "true":
                return response
            if file is log.files[-1]:
                await changed.wait()
            else:
                file, before, sent = log.files[-1], before + sent, 0

    async def _cut(self, request: web.Request, response: web.StreamResponse, how: str) -> web.StreamResponse:
        if how == "hang":
            await asyncio.Event().wait()
        if how == "abort":
            assert request.transport is not None
            request.transport.abort()
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Client]:
        """A client of this server while it runs."""
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", self.answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Client(ClusterConfig(server=url, identity=url), retry_budget=2.0) as client:
                yield client
        finally:
            await runner.cleanup()
