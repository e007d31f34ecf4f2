"""The request of each call, and what is made of its response."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
from aiohttp import web

from kpo_async.exceptions import ApiError, ForbiddenError, NotStartedError, ServerError, UnreachableError
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.errors import Action
from kpo_async.kube.remote_command import ExecResult, exit_code
from kpo_async.kube.transport import Pool, Request
from tests.kube.scripted_server import ok, page, refuse, scripted, stream

POD = {"metadata": {"name": "x"}, "spec": {}}
CORE = "/api/v1/namespaces/ns"
CALLS: dict[str, tuple[Callable[[Client], Awaitable[Any]], str, str, dict[str, str], Any]] = {
    "get": (lambda c: c.get("pods", "x", "ns"), "GET", f"{CORE}/pods/x", {}, None),
    "get a namespace": (lambda c: c.get("namespaces", "ns"), "GET", "/api/v1/namespaces/ns", {}, None),
    "get an odd name": (lambda c: c.get("pods", "a/../b?c", "ns"), "GET", f"{CORE}/pods/a%2F..%2Fb%3Fc", {}, None),
    "list": (lambda c: c.list("pods", "ns"), "GET", f"{CORE}/pods", {}, None),
    "list everywhere": (lambda c: c.list("pods"), "GET", "/api/v1/pods", {}, None),
    "list some": (
        lambda c: c.list(
            "pods", "ns", label_selector="a=b,c!=d", field_selector="metadata.name=x", limit=5, continue_token="t+/=",
            resource_version="0", resource_version_match="NotOlderThan",
        ),
        "GET", f"{CORE}/pods",
        {"labelSelector": "a=b,c!=d", "fieldSelector": "metadata.name=x", "limit": "5", "continue": "t+/=",
         "resourceVersion": "0", "resourceVersionMatch": "NotOlderThan"},
        None,
    ),
    "create": (lambda c: c.create("pods", POD, "ns"), "POST", f"{CORE}/pods", {}, POD),
    "create dry": (lambda c: c.create("pods", POD, "ns", dry_run=True), "POST", f"{CORE}/pods", {"dryRun": "All"}, POD),
    "create a part": (lambda c: c.create("pods/eviction", POD, "ns"), "POST", f"{CORE}/pods/x/eviction", {}, POD),
    "patch": (lambda c: c.patch("pods", "x", {"data": {"a": None}}, "ns"), "PATCH", f"{CORE}/pods/x", {},
              {"data": {"a": None}}),
    "delete": (lambda c: c.delete("pods", "x", "ns"), "DELETE", f"{CORE}/pods/x", {},
               {"kind": "DeleteOptions", "apiVersion": "v1"}),
    "delete this one": (
        lambda c: c.delete("pods", "x", "ns", uid="u", grace_period_seconds=0), "DELETE", f"{CORE}/pods/x", {},
        {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}, "gracePeriodSeconds": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "method", "path", "query", "body"), CALLS.values(), ids=CALLS)
async def test_each_call_is_one_request(
    call: Callable[[Client], Awaitable[Any]], method: str, path: str, query: dict[str, str], body: Any
) -> None:
    async with scripted(ok({"kind": "Answer"})) as server, server.client() as client:
        assert await call(client) == {"kind": "Answer"}
    (request,) = server.requests
    assert (request.method, request.path.partition("?")[0], dict(request.query), request.body) == (
        method,
        path,
        query,
        body,
    )


async def test_a_patch_is_a_merge_patch_and_every_request_has_a_user_agent() -> None:
    async with scripted(ok()) as server, server.client() as client:
        await client.patch("pods", "x", {}, "ns")
    headers = server.requests[0].headers
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert headers["User-Agent"].startswith("kpo-async/")


async def test_the_servers_warnings_are_logged_once_per_text(caplog: pytest.LogCaptureFixture) -> None:
    unknown, deprecated = r'299 - "unknown field \"spec.colour\""', '299 - "v1 X is deprecated, see a\\b", 299 k "two"'
    other = '110 - "Response is stale"'
    replies = ok(warnings=[unknown, deprecated, other]), ok(warnings=[unknown])
    async with scripted(*replies) as server, server.client() as client:
        await client.create("pods", POD, "ns")
        await client.create("pods", POD, "ns")
    action = '(create pods "x" in namespace "ns")'
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f'The API server warns: unknown field "spec.colour" {action}',
        f"The API server warns: v1 X is deprecated, see ab {action}",
        f"The API server warns: two {action}",
    ]


async def test_rights_are_reviewed_by_the_server() -> None:
    async with scripted(ok({"status": {"allowed": True}})) as server, server.client() as client:
        assert await client.review_access("get", "pods/log", "ns")
    (request,) = server.requests
    assert request.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    attributes = {"verb": "get", "resource": "pods", "subresource": "log", "namespace": "ns"}
    assert request.body["spec"] == {"resourceAttributes": attributes}


@pytest.mark.parametrize(("minor", "version"), [("34", (1, 34)), ("29+", (1, 29))])
async def test_the_version_is_requested_once(minor: str, version: tuple[int, int]) -> None:
    async with scripted(ok({"major": "1", "minor": minor})) as server, server.client() as client:
        assert await client.version() == await client.version() == version
    assert [request.path for request in server.requests] == ["/version"]


@pytest.mark.parametrize("body", ["<html>log in</html>", "[]", ""])
async def test_a_success_that_is_not_an_object_is_an_error(body: str) -> None:
    async with scripted(page(200, body)) as server, server.client() as client:
        with pytest.raises(ApiError, match="HTTP 200 without a Kubernetes status"):
            await client.get("pods", "x", "ns")
        with pytest.raises(ApiError, match="get /version: HTTP 200"):
            await client.version()


async def test_a_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "kpo_async")
    async with scripted(refuse(503, "ServiceUnavailable"), ok()) as server, server.client() as client:
        await client.get("pods", "x", "ns")
    (record,) = (record for record in caplog.records if record.name.startswith("kpo_async"))
    assert 'get pods "x" in namespace "ns"' in record.getMessage()
    assert "HTTP 503 ServiceUnavailable: ServiceUnavailable; retrying in 0." in record.getMessage()


# Streams


async def test_a_log_request_has_exactly_the_given_parameters() -> None:
    async with scripted(stream(b"one\n", 0.001, b"two\n", end="close")) as server, server.client() as client:
        since = "2026-01-02T03:04:05.123456789Z"
        options: dict[str, Any] = {
            "follow": True, "since_time": since, "tail_lines": 7, "limit_bytes": 99, "previous": True,
        }  # fmt: skip
        async with client.log("x", "ns", container="base", **options) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"one\ntwo\n"
    (request,) = server.requests
    assert request.path.partition("?")[0] == f"{CORE}/pods/x/log"
    assert dict(request.query) == {
        "container": "base", "follow": "true", "timestamps": "true", "sinceTime": since, "tailLines": "7",
        "limitBytes": "99", "previous": "true",
    }  # fmt: skip


async def test_a_watch_request_has_exactly_the_given_parameters() -> None:
    async with (
        scripted(stream(b"{}\n", end="close")) as server,
        server.client() as client,
        client.watch(
            "pods", "ns", label_selector="a=b", resource_version="7", timeout_seconds=300, send_initial_events=True
        ) as chunks,
    ):
        assert [chunk async for chunk in chunks] == [b"{}\n"]
    assert dict(server.requests[0].query) == {
        "watch": "true", "labelSelector": "a=b", "resourceVersion": "7", "timeoutSeconds": "300",
        "allowWatchBookmarks": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan",
    }  # fmt: skip


async def test_chunks_come_as_they_are_sent_and_a_reader_may_leave() -> None:
    async with (
        scripted(stream(b"one")) as server,
        server.client() as client,
        client.log("x", "ns", container="base") as chunks,
    ):
        assert await asyncio.wait_for(chunks.__anext__(), 5) == b"one"


async def test_a_stream_is_not_repeated_by_the_client() -> None:
    async with scripted(refuse(503, "ServiceUnavailable")) as server, server.client() as client:
        with pytest.raises(ServerError):
            await client.watch("pods", "ns").__aenter__()
        assert len(server.requests) == 1


@pytest.mark.virtual_time
async def test_a_silent_stream_fails_after_its_idle_timeout_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    async with (
        scripted(stream(b"one")) as server,
        server.client() as client,
        client.watch("pods", "ns", idle_timeout=70) as chunks,
    ):
        assert await chunks.__anext__() == b"one"
        began = loop.time()
        with pytest.raises(UnreachableError, match="no answer in time"):
            await chunks.__anext__()
        assert loop.time() - began == pytest.approx(70, abs=1)


@pytest.mark.virtual_time
async def test_a_quiet_stream_without_an_idle_timeout_lasts() -> None:
    async with (
        scripted(stream(b"one")) as server,
        server.client() as client,
        client.log("x", "ns", container="base") as chunks,
    ):
        await chunks.__anext__()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(chunks.__anext__(), 100_000)


async def test_a_cut_stream_yields_what_arrived_and_then_fails() -> None:
    async with (
        scripted(stream(b"one\n", end="cut")) as server,
        server.client() as client,
        client.log("x", "ns", container="base") as chunks,
    ):
        assert await chunks.__anext__() == b"one\n"
        with pytest.raises(UnreachableError, match='get pods/log "x"'):
            await chunks.__anext__()


async def test_a_container_that_has_not_started_has_its_own_error() -> None:
    message = 'container "base" in pod "x" is waiting to start: ContainerCreating'
    async with scripted(refuse(400, "BadRequest", message)) as server, server.client() as client:
        with pytest.raises(NotStartedError, match="waiting to start: ContainerCreating"):
            await client.log("x", "ns", container="base").__aenter__()


# Exec


def channels(*frames: bytes, then: str = "close") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The server's side of an exec."""

    async def answer(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        for frame in frames:
            await socket.send_bytes(frame)
        if then == "abort":
            assert request.transport is not None
            request.transport.abort()
        return socket

    return answer


SUCCESS = b'\x03{"status":"Success"}'


def failed(code: int) -> bytes:
    causes = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    return b"\x03" + json.dumps({"status": "Failure", "reason": "NonZeroExitCode", "details": causes}).encode()


async def run(client: Client) -> ExecResult:
    return await client.exec("x", "ns", container="base", command=["sh", "-c", "echo 1 & 2"])


@pytest.mark.parametrize(
    ("frames", "result"),
    [
        pytest.param([b"\x01out", b"\x02err", b"\x01put", SUCCESS], ExecResult(b"output", b"err", 0), id="success"),
        pytest.param([failed(7)], ExecResult(b"", b"", 7), id="exit code"),
        pytest.param([b"\x01", b"\x02", SUCCESS], ExecResult(b"", b"", 0), id="empty frames"),
        pytest.param([b"\x01" + b"x" * 3_000_000, SUCCESS], ExecResult(b"x" * 3_000_000, b"", 0), id="3 MB"),
    ],
)
async def test_an_exec_returns_output_and_exit_code(frames: list[bytes], result: ExecResult) -> None:
    async with scripted(channels(*frames)) as server, server.client() as client:
        assert await run(client) == result
    assert server.requests[0].path.partition("?")[0] == f"{CORE}/pods/x/exec"
    assert server.requests[0].query == [
        ("container", "base"), ("stdout", "true"), ("stderr", "true"), ("command", "sh"), ("command", "-c"),
        ("command", "echo 1 & 2"),
    ]  # fmt: skip


@pytest.mark.parametrize("then", ["close", "abort"])
async def test_an_exec_that_ends_without_an_exit_code_is_a_broken_connection(then: str) -> None:
    async with scripted(channels(b"\x01out", then=then)) as server, server.client() as client:
        with pytest.raises(UnreachableError):
            await run(client)


async def test_the_error_of_a_refused_exec_has_the_servers_message() -> None:
    message = 'pods "x" is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "ns"'
    async with scripted(refuse(403, "Forbidden", message)) as server, server.client() as client:
        with pytest.raises(ForbiddenError, match='u may not create pods/exec in namespace "ns"'):
            await run(client)


@pytest.mark.virtual_time
async def test_a_cancelled_exec_does_not_wait_for_a_server_that_is_silent() -> None:
    loop = asyncio.get_running_loop()

    async def deaf(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"], autoclose=False)
        await socket.prepare(request)
        await asyncio.Event().wait()
        return socket

    async with scripted(deaf) as server, server.client() as client:
        began = loop.time()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run(client), 10)
        assert loop.time() - began <= 12


async def test_an_exec_goes_through_the_proxy_with_the_headers_of_impersonation() -> None:
    headers = (("Impersonate-User", "jane"), ("Impersonate-Group", "dev"), ("Impersonate-Group", "ops"))
    async with scripted(channels(SUCCESS)) as proxy:
        config = ClusterConfig(server="http://api.invalid:6443", proxy=proxy.url, headers=headers)
        async with Client(config) as client:
            assert (await run(client)).exit_code == 0
    assert proxy.requests[0].headers["Host"] == "api.invalid:6443"
    assert proxy.requests[0].headers["Impersonate-User"] == "jane"


async def test_an_exec_verifies_the_server_by_its_tls_server_name() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kubernetes").configure_cert(context)
    ca_data = authority.cert_pem.bytes().decode()
    async with scripted(channels(SUCCESS), context=context) as server:
        async with Client(server.config(ca_data=ca_data, tls_server_name="kubernetes")) as client:
            assert (await run(client)).exit_code == 0
        async with Client(server.config(ca_data=ca_data)) as client:
            with pytest.raises(UnreachableError, match="not trusted"):
                await run(client)


async def test_an_exec_renews_a_rejected_token_once() -> None:
    async with scripted(refuse(401, "Unauthorized"), channels(SUCCESS)) as server, server.client() as client:
        assert (await run(client)).exit_code == 0
        assert len(server.requests) == 2


async def test_the_error_of_an_exec_without_upgrade_asks_whether_the_container_runs() -> None:
    script = refuse(500, "InternalError"), page(400, "Upgrade request required")
    async with scripted(*script) as server, server.client() as client:
        with pytest.raises(ServerError, match="is the container running") as caught:
            await run(client)
    assert (caught.value.code, caught.value.reason) == (500, "NotUpgraded")


@pytest.mark.parametrize(
    "status",
    [
        b'{"status":"Failure","message":"no such file","code":500,"reason":"InternalError"}',
        b"{",
        b"[]",
        b'{"status":"?"}',
    ],
)
def test_a_command_that_never_ran_is_an_error_and_no_exit_code(status: bytes) -> None:
    with pytest.raises(ApiError):
        exit_code(status, Action("create", "pods/exec", "x", "ns"))


def test_a_request_is_a_value() -> None:
    action = Action("get", "pods")
    assert Request(action, "GET", "/", Pool.CALLS) == Request(action, "GET", "/", Pool.CALLS)
