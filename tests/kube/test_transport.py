"""Connections: TLS and certificates, proxies, separate pools, nothing left open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from kpo_async.exceptions import UnauthorizedError, UnreachableError
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.auth.credentials import ClientCertificate, FileCredentials, StaticCredentials
from kpo_async.kube.client import Client
from kpo_async.kube.errors import Unreachable
from tests.kube.scripted_server import ok, scripted, silence, stream


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    """A server known as `kubernetes` and 127.0.0.1 that likes client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "kubernetes").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def client_pair(authority: trustme.CA, name: str) -> ClientCertificate:
    leaf = authority.issue_cert(name)
    return ClientCertificate(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())


async def reach(config: ClusterConfig) -> None:
    async with Client(config, retry_budget=2) as client:
        await client.get("pods", "x", "ns")


async def test_the_clusters_ca_is_what_is_trusted(authority: trustme.CA, server_context: ssl.SSLContext) -> None:
    async with scripted(ok(), context=server_context) as server:
        await reach(server.config(ca_data=pem(authority)))


async def test_an_unknown_ca_is_reported_at_once_with_advice(server_context: ssl.SSLContext) -> None:
    async with scripted(ok(), context=server_context) as server:
        with pytest.raises(UnreachableError, match="its certificate is not trusted") as caught:
            await reach(server.config(ca_data=pem(trustme.CA())))
    assert caught.value.reason == Unreachable.CERTIFICATE
    assert "give its CA (certificate-authority or ca_cert)" in str(caught.value)


async def test_verification_can_be_switched_off(server_context: ssl.SSLContext) -> None:
    async with scripted(ok(), context=server_context) as server:
        await reach(server.config(verify_ssl=False))


async def test_the_server_may_have_another_name_in_its_certificate(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kubernetes").configure_cert(context)
    async with scripted(ok(), context=context) as server:
        await reach(server.config(ca_data=pem(authority), tls_server_name="kubernetes"))
        with pytest.raises(UnreachableError, match="not trusted"):
            await reach(server.config(ca_data=pem(authority)))


async def test_a_replaced_ca_file_is_read_after_the_first_failure(
    authority: trustme.CA, server_context: ssl.SSLContext, tmp_path: Path
) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(pem(trustme.CA()))
    async with scripted(ok(), context=server_context) as server, Client(server.config(ca_file=str(path))) as client:
        with pytest.raises(UnreachableError):
            await client.get("pods", "x", "ns")
        path.write_text(pem(authority))
        await client.get("pods", "x", "ns")


async def test_a_client_certificate_is_shown_and_replaced_when_it_was_renewed(
    authority: trustme.CA, server_context: ssl.SSLContext, tmp_path: Path
) -> None:
    shown: list[str] = []

    async def who(request: web.Request) -> web.StreamResponse:
        certificate = request.get_extra_info("peercert")
        shown.append(certificate["subjectAltName"][0][1])
        return web.json_response({}, status=401 if len(shown) == 2 else 200)

    def put(name: str) -> None:
        pair = client_pair(authority, name)
        (tmp_path / "crt").write_bytes(pair.certificate)
        (tmp_path / "key").write_bytes(pair.key)

    put("first.user")
    user = FileCredentials(certificate_file=str(tmp_path / "crt"), key_file=str(tmp_path / "key"))
    async with (
        scripted(who, context=server_context) as server,
        Client(server.config(user, ca_data=pem(authority))) as client,
    ):
        await client.get("pods", "x", "ns")
        put("second.user")
        await client.get("pods", "x", "ns")
    assert shown == ["first.user", "first.user", "second.user"]


@pytest.mark.parametrize("config", [{"ca_data": "no PEM"}, {"ca_file": "/no/ca"}], ids=["no PEM", "no file"])
async def test_an_unusable_ca_is_reported(config: dict[str, str]) -> None:
    with pytest.raises(UnauthorizedError, match=r"the CA or the client certificate for .* is unusable"):
        await reach(ClusterConfig(server="https://127.0.0.1:1", **config))


async def test_a_port_without_tls_is_named(authority: trustme.CA) -> None:
    async with scripted(ok()) as server:
        address = server.url.replace("http:", "https:")
        with pytest.raises(UnreachableError) as caught:
            await reach(ClusterConfig(server=address, ca_data=pem(authority)))
    assert caught.value.reason == Unreachable.TLS


async def test_a_refused_connection_names_the_server_and_this_host() -> None:
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UnreachableError) as caught:
        await reach(ClusterConfig(server=address))
    assert str(caught.value) == (
        f'cannot reach the API server {address} from host "{socket.gethostname()}" to get pods "x" in namespace "ns": '
        "connection refused; check the server's address in the connection or kubeconfig, and the network between"
    )


async def test_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(UnreachableError, match="its name does not resolve"):
        await reach(ClusterConfig(server="https://no-such-cluster.invalid:6443"))


@pytest.mark.virtual_time
async def test_a_server_that_never_answers_is_reported_within_30_seconds() -> None:
    loop = asyncio.get_running_loop()
    async with scripted(silence()) as server, server.client() as client:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await client.get("pods", "x", "ns")
    assert loop.time() < 30


@pytest.mark.virtual_time
async def test_a_half_open_listener_is_reported_within_30_seconds() -> None:
    loop = asyncio.get_running_loop()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as deaf:
        address = f"https://127.0.0.1:{deaf.getsockname()[1]}"
        async with Client(ClusterConfig(server=address, verify_ssl=False)) as client:
            with pytest.raises(UnreachableError):
                await client.get("pods", "x", "ns")
    assert loop.time() < 30


async def test_requests_go_through_the_proxy_and_its_failure_is_named() -> None:
    async with (
        scripted(ok({"from": "proxy"})) as proxy,
        Client(ClusterConfig(server="http://api.invalid:6443", proxy=proxy.url)) as client,
    ):
        assert await client.get("pods", "x", "ns") == {"from": "proxy"}
        assert proxy.requests[0].headers["Host"] == "api.invalid:6443"
    with pytest.raises(UnreachableError) as caught:
        await reach(ClusterConfig(server="https://api.invalid:6443", proxy="http://u:s3cr3t@127.0.0.1:1"))
    assert caught.value.reason == Unreachable.PROXY
    assert "check proxy-url, HTTPS_PROXY and NO_PROXY" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_impersonation_headers_are_sent() -> None:
    async with scripted(ok()) as server:
        await reach(server.config(headers=(("Impersonate-User", "jane"), ("Impersonate-Group", "dev"))))
        assert server.requests[0].headers["Impersonate-User"] == "jane"


async def open_logs(client: Client, stack: contextlib.AsyncExitStack, count: int) -> None:
    for _ in range(count):
        await stack.enter_async_context(client.log("x", "ns", container="base", follow=True))


async def test_two_hundred_open_streams_do_not_keep_a_call_waiting() -> None:
    async def by_path(request: web.Request) -> web.StreamResponse:
        return await (stream(b"line\n") if request.path.endswith("/log") else ok({"kind": "Pod"}))(request)

    async with scripted(by_path) as server, server.client() as client, contextlib.AsyncExitStack() as stack:
        await open_logs(client, stack, 200)
        assert await asyncio.wait_for(client.get("pods", "x", "ns"), 5) == {"kind": "Pod"}


@pytest.mark.parametrize("keepalive", [True, False])
async def test_keepalive_can_be_switched_off(keepalive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    probing: list[bool] = []
    connect = asyncio.SelectorEventLoop.sock_connect

    async def seen(loop: asyncio.SelectorEventLoop, made: socket.socket, address: object) -> None:
        await connect(loop, made, address)
        probing.append(bool(made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)))

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_connect", seen)
    async with scripted(ok()) as server, Client(server.config(tcp_keepalive=keepalive)) as client:
        await client.get("pods", "x", "ns")
    assert probing == [keepalive]


async def test_a_big_object_arrives_whole() -> None:
    big = {"data": "x" * 3_000_000}
    async with scripted(ok(big)) as server, server.client() as client:
        assert await client.get("configmaps", "x", "ns") == big


@pytest.mark.parametrize("moment", range(0, 12))
async def test_a_call_can_be_cancelled_at_any_moment(
    moment: int, authority: trustme.CA, server_context: ssl.SSLContext
) -> None:
    async with scripted(silence(), context=server_context) as server:
        client = Client(server.config(StaticCredentials("Bearer T"), ca_data=pem(authority)))
        call = asyncio.create_task(client.get("pods", "x", "ns"))
        for _ in range(moment**2):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.aclose()


async def test_errors_of_the_callers_block_pass_through_a_stream_unchanged() -> None:
    async with scripted(stream(b"line\n")) as server, server.client() as client:
        with pytest.raises(OSError, match="disk full"):
            async with client.log("x", "ns", container="base"):
                raise OSError("disk full")
        with pytest.raises(asyncio.TimeoutError):
            async with client.log("x", "ns", container="base"):
                raise asyncio.TimeoutError
