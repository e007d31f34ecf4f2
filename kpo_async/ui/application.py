"""The FastAPI application of the page: every request, and the headers of every response.

Airflow mounts it at `/kpo-async`. Airflow does not protect what a plugin mounts, so each request goes through Airflow's
own authentication (`GetUserDep`), the files of the page included, and its answer through `Reader`. All paths in the
page are relative: it works behind a proxy that adds a prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import msgspec
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kpo_async.exceptions import KpoError
from kpo_async.reconciler.places import Place
from kpo_async.ui import history, pod_log, stream
from kpo_async.ui.access import Reader
from kpo_async.ui.board import open_board
from kpo_async.ui.known_places import known_places, place_id
from kpo_async.ui.server_sent import HEADERS, EventStream

STATIC = Path(__file__).parent / "static"
FILES = frozenset(path.name for path in STATIC.iterdir() if path.suffix in (".css", ".js"))
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
NO_POD = "There is no such pod."

ReaderDep = Annotated[Reader, Depends(Reader)]


def create_app() -> FastAPI:
    """Return the application."""
    app = FastAPI(title="kpo-async", openapi_url=None)
    app.add_middleware(SecurityHeaders)
    app.add_api_route("/", _page)
    app.add_api_route("/stream", _stream)
    app.add_api_route("/history", _history)
    app.add_api_route("/log", _log)
    app.add_api_route("/{name}", _file)
    return app


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` to every response, of errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _page(user: GetUserDep) -> FileResponse:
    return FileResponse(STATIC / "pods.html", headers={"Cache-Control": "no-cache"})


async def _file(name: str, user: GetUserDep) -> FileResponse:
    if name not in FILES:
        raise HTTPException(404, "Not found")
    return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})


async def _stream(reader: ReaderDep) -> EventStream:
    return EventStream(_changes(reader), headers=HEADERS)


async def _changes(reader: Reader) -> AsyncIterator[bytes]:
    async with open_board() as board:
        async for event in stream.changes(board, reader):
            yield event


async def _history(reader: ReaderDep) -> Response:
    now = datetime.now(timezone.utc)
    tries = await asyncio.to_thread(history.read, now)
    await reader.learn({one.dag_id for one in tries})
    found = history.count((one for one in tries if reader.sees_dag(one.dag_id)), now)
    return Response(msgspec.json.encode(found), media_type="application/json", headers={"Cache-Control": "no-store"})


async def _log(place: str, name: str, uid: str, container: str, reader: ReaderDep) -> EventStream:
    known = await known_places()
    where = next((one for one in known.places if place_id(one) == place), None)
    if where is None:
        raise HTTPException(404, NO_POD)
    try:
        found = await pod_log.find(where, name, uid, known.installation)
    except KpoError as error:
        return EventStream(iter([pod_log.end_event(await _reason(reader, where, error))]), headers=HEADERS)
    if found is None:
        raise HTTPException(404, NO_POD)
    await reader.require_log(found.record.dag_id)
    return EventStream(pod_log.lines(found, container), headers=HEADERS)


async def _reason(reader: Reader, place: Place, error: KpoError) -> str:
    """Return why a pod cannot be looked at. What is wrong with a connection is for those who may read it."""
    await reader.learn((), [place.cluster])
    if reader.sees_connection(place.cluster):
        return str(error)
    return "The pod's cluster refused to show it. Ask someone who may see its connection what is wrong."
