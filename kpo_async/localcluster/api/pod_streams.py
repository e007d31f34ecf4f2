"""Logs and exec: streams that the API server passes between a client and the kubelet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from aiohttp import WSMsgType, web

from kpo_async.localcluster.api import errors, listing, validate
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.request import ApiRequest
from kpo_async.localcluster.api.request_info import is_true
from kpo_async.localcluster.node import BadExecRequest, BadLogRequest, ExecNotStarted, ExecSession, Kubelet, LogOptions
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import encode

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
"""Channels of the remote command protocol: the first byte of each websocket message."""
_ERROR_WAIT = 0.05
"""Seconds that the response's headers wait for the kubelet to refuse a log."""
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


async def log(request: ApiRequest, kubelet: Kubelet, pod: Object, faults: Faults) -> web.StreamResponse:
    """GET pods/NAME/log. Raises StatusError (400, 422)."""
    options = _log_options(request.query, pod)
    if not pod["spec"].get("nodeName"):
        # No container can have written anything yet.
        return web.Response(status=204)
    chunks = kubelet.log(pod, options)
    first = asyncio.ensure_future(anext(chunks, None))
    sent = faults.stream(request.info, request.http, _chunks(first, chunks))
    try:
        # An error comes at once; a log without lines must not delay the headers.
        await asyncio.wait((first,), timeout=_ERROR_WAIT)
        if first.done() and isinstance(error := first.exception(), BadLogRequest):
            raise errors.bad_request(str(error))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request.http)
        async for chunk in sent:
            await response.write(chunk)
        await response.write_eof()
        return response
    finally:
        await sent.aclose()
        first.cancel()
        await asyncio.wait((first,))
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


async def _chunks(first: asyncio.Future[bytes | None], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    chunk = await first
    while chunk is not None:
        yield chunk
        chunk = await anext(rest, None)


def _log_options(query: Mapping[str, str], pod: Object) -> LogOptions:
    causes = []
    name = pod["metadata"]["name"]
    numbers = {
        key: listing.parse_int(query[key]) for key in ("tailLines", "limitBytes", "sinceSeconds") if query.get(key)
    }
    for key, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        if key in numbers and numbers[key] < least:
            limit = "must be greater than 0" if least else "must be greater than or equal to 0"
            causes.append(validate.invalid(key, numbers[key], limit))
    since = query.get("sinceTime")
    if since and "sinceSeconds" in numbers:
        message = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(errors.Cause("FieldValueForbidden", "[]", message))
    if causes:
        raise errors.invalid("PodLogOptions", name, causes)
    try:
        # A real server passes whole seconds to the kubelet, whatever fraction the client sent.
        since_time = times.parse(since) // times.SECOND * times.SECOND if since else None
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        raise errors.bad_request(f'parsing time "{since}" as "{layout}": cannot parse "{since}" as "2006"') from None
    return LogOptions(
        container=choose_container(pod, query.get("container", "")),
        follow=is_true(query, "follow"),
        previous=is_true(query, "previous"),
        timestamps=is_true(query, "timestamps"),
        since_time=since_time,
        since_seconds=numbers.get("sinceSeconds"),
        tail_lines=numbers.get("tailLines"),
        limit_bytes=numbers.get("limitBytes"),
    )


def choose_container(pod: Object, wanted: str) -> str:
    """Return the container of a log or an exec: the named one, or the only one. Raises StatusError (400)."""
    name, spec = pod["metadata"]["name"], pod["spec"]
    containers = [container["name"] for container in spec["containers"]]
    first = [container["name"] for container in spec.get("initContainers", [])]
    if wanted:
        if wanted not in containers + first:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(containers) == 1:
        return str(containers[0])
    choice = " ".join(first + containers)
    raise errors.bad_request(f"a container name must be specified for pod {name}, choose one of: [{choice}]")


async def execute(request: ApiRequest, kubelet: Kubelet, pod: Object) -> web.StreamResponse:
    """GET or POST pods/NAME/exec over a websocket. Raises StatusError (400)."""
    query = request.http.query
    name = pod["metadata"]["name"]
    container = choose_container(pod, query.get("container", ""))
    if not pod["spec"].get("nodeName"):
        raise errors.bad_request(f"pod {name} does not have a host assigned")
    websocket = web.WebSocketResponse(protocols=PROTOCOLS)
    if not websocket.can_prepare(request.http):
        raise errors.bad_request("Upgrade request required")
    command = query.getall("command", [])
    if not command:
        raise errors.bad_request("you must specify at least 1 command for the container")
    stdin, tty = is_true(query, "stdin"), is_true(query, "tty")
    try:
        session = await kubelet.exec(pod, container, command, stdin=stdin, tty=tty)
    except ExecNotStarted as error:
        await websocket.prepare(request.http)
        await websocket.send_bytes(bytes([ERROR]) + encode(not_started(str(error))))
        await websocket.close()
        return websocket
    except BadExecRequest as error:
        # The kubelet's own text, without a Status around it.
        return web.Response(status=500, text=str(error))
    try:
        await websocket.prepare(request.http)
        await _relay(websocket, session, command)
    finally:
        await session.kill()
        await websocket.close()
    return websocket


async def _relay(websocket: web.WebSocketResponse, session: ExecSession, command: list[str]) -> None:
    """Pass bytes both ways until the command ends or the client disconnects."""

    async def send(channel: int, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            await websocket.send_bytes(bytes([channel]) + chunk)

    async def finish() -> None:
        await websocket.send_bytes(bytes([STDOUT]))
        await asyncio.gather(send(STDOUT, session.stdout()), send(STDERR, session.stderr()))
        await websocket.send_bytes(bytes([ERROR]) + encode(exit_status(await session.wait(), command)))

    output = asyncio.create_task(finish(), name=f"exec {command[0]}: output")
    control = asyncio.create_task(_receive(websocket, session), name=f"exec {command[0]}: input")
    try:
        await asyncio.wait((output, control), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (output, control):
            task.cancel()
        await asyncio.gather(output, control, return_exceptions=True)


async def _receive(websocket: web.WebSocketResponse, session: ExecSession) -> None:
    async for message in websocket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await session.write(data)
        elif channel == RESIZE:
            size = json.loads(data)
            session.resize(size["Width"], size["Height"])
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await session.close_stdin()


def exit_status(code: int, command: list[str]) -> Object:
    """Return the Status for a command's exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: "
        f"error executing command [{' '.join(command)}], exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def not_started(problem: str) -> Object:
    """Return the Status of a command that could not be started."""
    message = f"error executing command in container: {problem}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
