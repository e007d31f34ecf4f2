"""An API server of recorded pods: `python -m scaling.server PODS`, which prints its port.

It knows one watch of pods and one log. `POST /change?events=N` has N status changes sent to the watch, `POST /end` the
ends of all pods. `GET .../pods/NAME/log` is as many lines as `LOG_LINES` says.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web
from watch_event import line, pod

LOG_LINES = 20_000
CHUNK = 500
"""Events written at a time."""
LOG_WORDS = "of a log, as long as lines of logs are, about a hundred characters"
STAMP = f"2026-11-21T09:00:%02d.%09dZ line %d {LOG_WORDS}\n"


class Server:
    """The pods, and who watches them."""

    def __init__(self, pods: int) -> None:
        self.pods = pods
        self.version = 100
        self.watches: list[asyncio.Queue[bytes]] = []

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """The pods as they are, the bookmark that ends them, then what happens."""
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.watches.append(queue)
        for start in range(0, self.pods, CHUNK):
            numbers = range(start, min(start + CHUNK, self.pods))
            await response.write(b"".join(line("ADDED", pod(number, 1)) for number in numbers))
        marker = {"metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}}
        await response.write(line("BOOKMARK", marker))
        while True:
            await response.write(await queue.get())

    async def change(self, request: web.Request) -> web.Response:
        """Send status changes, one pod after the other."""
        events = int(request.query["events"])
        for start in range(0, events, CHUNK):
            self._send([pod(number % self.pods, self._next()) for number in range(start, min(start + CHUNK, events))])
        return web.Response()

    async def end(self, request: web.Request) -> web.Response:
        """Send the ends of all pods."""
        for start in range(0, self.pods, CHUNK):
            ended = []
            for number in range(start, min(start + CHUNK, self.pods)):
                one = pod(number, self._next())
                one["status"]["phase"] = "Succeeded"
                [status] = one["status"]["containerStatuses"]
                status["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
                ended.append(one)
            self._send(ended)
        return web.Response()

    async def log(self, request: web.Request) -> web.StreamResponse:
        """Stream the log of a pod that runs on."""
        response = web.StreamResponse()
        await response.prepare(request)
        text = "".join(STAMP % (number // 1000 % 60, number, number) for number in range(LOG_LINES))
        await response.write(text.encode())
        await asyncio.Event().wait()
        return response

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _send(self, pods: list[dict[str, object]]) -> None:
        for queue in self.watches:
            queue.put_nowait(b"".join(line("MODIFIED", one) for one in pods))


async def main() -> None:
    server = Server(int(sys.argv[1]))
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/airflow/pods", server.watch)
    app.router.add_get("/api/v1/namespaces/airflow/pods/{name}/log", server.log)
    app.router.add_post("/change", server.change)
    app.router.add_post("/end", server.end)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
