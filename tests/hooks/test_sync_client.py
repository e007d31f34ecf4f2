"""The synchronous client reaches the cluster as kpo_async's own client does."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme
import yaml
from aiohttp import web

from kpo_async.exceptions import KpoError
from kpo_async.hooks.sync_client import api_client, core_v1
from kpo_async.kube.auth import ClusterSource
from kpo_async.localcluster import LocalCluster

pytest.importorskip("kubernetes")
from kubernetes.client import AuthenticationV1Api
from kubernetes.stream import stream
from kubernetes.watch import Watch

T = TypeVar("T")

PLUGIN = """\
import datetime, json, pathlib, sys
tokens = pathlib.Path(sys.argv[1])
token, *others = tokens.read_text().split()
tokens.write_text(" ".join(others or [token]))
expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
print(json.dumps({
    "apiVersion": "client.authentication.k8s.io/v1",
    "kind": "ExecCredential",
    "status": {"token": token, "expirationTimestamp": expiry.isoformat()},
}))
"""
"""An exec plugin that prints the next token of a file, good for half a second."""


def kubeconfig(cluster: LocalCluster, **user: Any) -> ClusterSource:
    """The administrator's kubeconfig, with `user` for its user section, or added to it."""
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    section = document["users"][0]["user"]
    document["users"][0]["user"] = user if "exec" in user else {**section, **user}
    return ClusterSource(config_dict=document)


async def in_thread(function: Callable[[], T]) -> T:
    """Call `function` as a callback's thread does: the cluster needs this thread's event loop."""
    return await asyncio.to_thread(function)


def who_am_i(source: ClusterSource) -> Callable[[], tuple[str, list[str]]]:
    def ask() -> tuple[str, list[str]]:
        review = AuthenticationV1Api(api_client(source)).create_self_subject_review({})
        return review.status.user_info.username, review.status.user_info.groups

    return ask


async def test_it_verifies_the_server_by_the_ca_of_the_kubeconfig(local_cluster: LocalCluster) -> None:
    pods = await in_thread(lambda: core_v1(kubeconfig(local_cluster)).list_namespaced_pod("default"))
    assert pods.items == []


async def test_it_impersonates_a_user_in_several_groups(local_cluster: LocalCluster) -> None:
    source = kubeconfig(local_cluster, **{"as": "jane", "as-groups": ["one", "two"]})
    assert await in_thread(who_am_i(source)) == ("jane", ["one", "two", "system:authenticated"])


async def test_it_asks_an_exec_plugin_again_when_the_token_has_expired(
    local_cluster: LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    first, second = (local_cluster.authenticator.add_user(name) for name in ("first", "second"))
    (tmp_path / "tokens").write_text(f"{first} {second}")
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(tmp_path / "plugin.py"), str(tmp_path / "tokens")],
        "interactiveMode": "Never",
    }
    client = await in_thread(lambda: api_client(kubeconfig(local_cluster, exec=plugin)))
    assert client.configuration.api_key["authorization"] == f"Bearer {first}"
    await asyncio.sleep(0.5)
    review = await in_thread(lambda: AuthenticationV1Api(client).create_self_subject_review({}))
    assert review.status.user_info.username == "second"


async def test_a_plugin_that_fails_is_named(local_cluster: LocalCluster) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "interactiveMode": "Never"}
    with pytest.raises(KpoError, match="/bin/false"):
        await in_thread(lambda: api_client(kubeconfig(local_cluster, exec=plugin)))


async def test_it_watches_and_opens_websockets(local_cluster: LocalCluster) -> None:
    container = {"name": "base", "image": "busybox:1.36", "command": ["sleep", "1000"]}
    manifest = {"metadata": {"name": "p"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}

    def run() -> str:
        api = core_v1(kubeconfig(local_cluster))
        api.create_namespaced_pod("default", manifest)
        watch = Watch()
        for event in watch.stream(api.list_namespaced_pod, "default", timeout_seconds=30):
            if event["object"].status.phase == "Running":
                watch.stop()
        echo = {"command": ["echo", "hello"], "stdout": True, "stderr": True, "_preload_content": False}
        socket = stream(api.connect_get_namespaced_pod_exec, "p", "default", **echo)
        socket.run_forever()
        output: str = socket.read_all()
        socket.sock.shutdown()  # `close` leaves a socket open that the server has closed
        return output

    assert await in_thread(run) == "hello\n"


async def test_it_sends_the_client_certificate_and_deletes_its_files_with_the_client() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        subject = request.transport.get_extra_info("peercert")["subjectAltName"]
        return web.json_response({"kind": "NamespaceList", "items": [{"metadata": {"name": subject[0][1]}}]})

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    _, port = server.addresses[0][:2]
    pair = authority.issue_cert("jane.example")
    source = ClusterSource(config_dict=document_of(f"https://127.0.0.1:{port}", authority, pair))
    api = await in_thread(lambda: core_v1(source))
    files = [Path(getattr(api.api_client.configuration, name)) for name in ("ssl_ca_cert", "cert_file", "key_file")]
    assert [path.stat().st_mode & 0o077 for path in {path.parent for path in files}] == [0]
    try:
        assert (await in_thread(api.list_namespace)).items[0].metadata.name == "jane.example"
    finally:
        await server.cleanup()
    del api
    gc.collect()
    assert not any(path.exists() for path in files)


def document_of(server: str, authority: trustme.CA, pair: trustme.LeafCert) -> dict[str, Any]:
    """A kubeconfig that holds the CA and a client certificate."""
    certificate = b"".join(blob.bytes() for blob in pair.cert_chain_pems)
    cluster = {"server": server, "certificate-authority-data": encoded(authority.cert_pem.bytes())}
    user = {"client-certificate-data": encoded(certificate), "client-key-data": encoded(pair.private_key_pem.bytes())}
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def proxy_of(server: str) -> tuple[str | None, Any]:
    configuration = api_client(ClusterSource(config_dict=plain_document(server))).configuration
    return configuration.proxy, configuration.proxy_headers


def plain_document(server: str) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
    }


def test_it_uses_the_proxy_of_the_environment_with_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://jane:p%40ss@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    basic = {"proxy-authorization": "Basic " + encoded(b"jane:p@ss")}
    assert proxy_of("https://192.0.2.1") == ("http://jane:p%40ss@proxy.example:3128", basic)


def test_it_uses_no_proxy_for_the_networks_in_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert proxy_of("https://10.1.2.3") == (None, None)
