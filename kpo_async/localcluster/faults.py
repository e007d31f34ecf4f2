"""Breaks the API server on purpose, for a while: `with cluster.faults.throttle(retry_after=1): ...`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from kpo_async.localcluster.route import Route


class Faults:
    """What goes wrong at the moment."""

    def __init__(self, cluster: object) -> None:
        self._cluster = cluster

    def clear(self) -> None:
        """End all faults."""

    async def before(self, route: Route | None, request: web.BaseRequest) -> None:
        """Called with each request before anything else is done. Raises Refusal, or delays it."""

    async def stream(
        self, route: Route, request: web.BaseRequest, frames: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The lines of a watch as the client is to see them."""
        async for frame in frames:
            yield frame
