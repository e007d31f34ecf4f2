"""The errors that users read when the API server refuses a request or cannot be reached."""

from __future__ import annotations

import asyncio
import socket
import ssl

import aiohttp
import pytest

from kpo_async import exceptions
from kpo_async.exceptions import (
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotStartedError,
    ServerError,
    ThrottledError,
    UnauthorizedError,
    UnreachableError,
)
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.errors import Action, Unreachable, from_response, from_transport
from tests.kube.scripted_server import Reply, cut, page, refuse, scripted, silence, stream

GET = Action("get", "pods", "x", "team-a", "https://api:6443")


def status(message: str, reason: str = "") -> bytes:
    return b'{"kind":"Status","reason":"%s","message":"%s"}' % (reason.encode(), message.replace('"', '\\"').encode())


@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, InvalidError), (401, UnauthorizedError), (403, ForbiddenError), (404, NotFoundError), (405, ApiError),
     (409, ConflictError), (410, ExpiredError), (413, InvalidError), (422, InvalidError), (429, ThrottledError),
     (500, ServerError), (502, ServerError), (503, ServerError), (504, ServerError), (302, ApiError)],
)  # fmt: skip
def test_each_code_has_its_class_and_the_error_keeps_its_details(code: int, kind: type[ApiError]) -> None:
    error = from_response(GET, code, status("no", "Because"), retry_after=3.0)
    assert type(error) is kind
    assert (error.verb, error.resource, error.name, error.namespace) == ("get", "pods", "x", "team-a")
    assert (error.code, error.reason, error.retry_after) == (code, "Because", 3.0)


def test_a_denial_names_verb_resource_namespace_and_identity() -> None:
    message = (
        'pods "x" is forbidden: User "system:serviceaccount:airflow:worker" cannot get resource "pods" '
        'in API group "" in the namespace "team-a"'
    )
    assert str(from_response(GET, 403, status(message, "Forbidden"))) == (
        'system:serviceaccount:airflow:worker may not get pods in namespace "team-a" '
        '(get pods "x" in namespace "team-a"); bind a Role with this verb and resource to it'
    )


def test_an_exceeded_quota_is_not_reported_as_missing_rights() -> None:
    error = from_response(GET, 403, status('pods "x" is forbidden: exceeded quota: cpu', "Forbidden"))
    assert str(error) == 'get pods "x" in namespace "team-a": pods "x" is forbidden: exceeded quota: cpu'


@pytest.mark.parametrize(
    "message",
    ['container "base" in pod "x" is waiting to start: ContainerCreating', "pod x does not have a host assigned"],
)
def test_a_log_that_does_not_exist_yet_can_be_told_from_a_wrong_request(message: str) -> None:
    assert type(from_response(GET, 400, status(message, "BadRequest"))) is NotStartedError
    assert type(from_response(GET, 400, status("container zz is not valid for pod x"))) is InvalidError


def test_a_response_of_a_proxy_is_shown() -> None:
    text = str(from_response(GET, 502, b"<html>\n  <b>Bad\n Gateway</b></html>"))
    assert "HTTP 502 without a Kubernetes status (<html> <b>Bad Gateway</b></html>)" in text
    assert "a proxy or load balancer answered" in text


def test_refused_credentials_say_where_to_look() -> None:
    text = str(from_response(GET, 401, status("Unauthorized", "Unauthorized")))
    assert "https://api:6443 rejects the credentials" in text
    assert "check the token, certificate or plugin" in text


def test_seconds_to_wait_are_also_read_from_the_body() -> None:
    body = b'{"reason":"TooManyRequests","message":"x","details":{"retryAfterSeconds":4}}'
    assert from_response(GET, 429, body).retry_after == 4


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"null", b"[]", b'{"code": "five"}', b"{" * 100_000])
def test_any_body_makes_a_bounded_message(body: bytes) -> None:
    assert len(str(from_response(GET, 500, body)).encode()) <= exceptions.MESSAGE_LIMIT


def test_a_long_reason_is_clipped() -> None:
    assert len(str(from_response(GET, 422, status("é" * 5000))).encode()) <= exceptions.MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("error", "reason", "expected"),
    [
        pytest.param(ConnectionRefusedError(111, "x"), Unreachable.REFUSED, "connection refused", id="refused"),
        pytest.param(socket.gaierror(-2, "x"), Unreachable.NAME, "its name does not resolve", id="dns"),
        pytest.param(asyncio.TimeoutError(), Unreachable.TIMEOUT, "no answer in time", id="time-out"),
        pytest.param(aiohttp.SocketTimeoutError("x"), Unreachable.TIMEOUT, "no answer in time", id="idle"),
        pytest.param(ConnectionResetError(104, "gone"), Unreachable.BROKEN, "connection broke (gone)", id="reset"),
        pytest.param(aiohttp.ServerDisconnectedError(), Unreachable.BROKEN, "the connection broke", id="disconnected"),
        pytest.param(ssl.SSLError(1, "WRONG_VERSION"), Unreachable.TLS, "TLS failed", id="tls"),
        pytest.param(aiohttp.InvalidURL("no:"), Unreachable.ADDRESS, "this is not a URL", id="url"),
    ],
)  # fmt: skip
def test_each_cause_is_named(error: BaseException, reason: str, expected: str) -> None:
    described = from_transport(GET, error)
    assert (described.code, described.reason) == (0, reason)
    beginning = f'cannot reach the API server https://api:6443 from host "{socket.gethostname()}" to get pods "x"'
    assert str(described).startswith(beginning)
    assert expected in str(described)


FAULTS: dict[str, tuple[Reply, type[ApiError]]] = {
    "cut before the headers": (cut(), UnreachableError),
    "cut in the body": (stream(b"{", end="cut"), UnreachableError),
    "silence": (silence(), UnreachableError),
    "silence in the body": (stream(b"{"), UnreachableError),
    "a login page": (page(302, "log in"), ApiError),
    "an error page": (page(500, "<html>"), ServerError),
    "a refusal": (refuse(403, "Forbidden"), ForbiddenError),
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS)
@pytest.mark.virtual_time
async def test_nothing_of_aiohttp_comes_out_of_a_call(fault: Reply, kind: type[ApiError]) -> None:
    async with scripted(fault) as server, server.client(retry_budget=0.5) as client:
        with pytest.raises(kind):
            await client.get("pods", "x", "ns")


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS)
@pytest.mark.virtual_time
async def test_nothing_of_aiohttp_comes_out_of_a_stream(fault: Reply, kind: type[ApiError]) -> None:
    async def read(client: Client) -> None:
        async with client.log("x", "ns", container="base", idle_timeout=5) as chunks:
            async for _ in chunks:
                pass

    async with scripted(fault) as server, server.client() as client:
        with pytest.raises(kind):
            await read(client)


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "an odd status line": b"HTTP/9.9 abc\r\n\r\n",
    "a wrong length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "broken gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "endless headers": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    "nothing": b"",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.virtual_time
async def test_garbage_on_the_port_is_an_unreachable_server_with_its_cause(garbage: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1")
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Client(ClusterConfig(server=address), retry_budget=0.5) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.get("pods", "x", "ns")
        assert isinstance(caught.value.__cause__, (aiohttp.ClientError, OSError))
    server.close()
    await server.wait_closed()
