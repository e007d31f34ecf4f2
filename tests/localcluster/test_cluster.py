"""The whole cluster: with ordinary clients, in its own process, and without anything left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
import yaml
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.stream import WsApiClient

from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.localcluster.process import LocalClusterProcess
from tests.conformance.api import Access, Api, asleep, pod


def test_importing_the_package_loads_the_cluster_only_on_demand() -> None:
    lines = (
        "import sys; import kpo_async.localcluster as package",
        "assert 'aiohttp' not in sys.modules and 'kpo_async.localcluster.cluster' not in sys.modules",
        "from kpo_async.localcluster import LocalCluster",
        "from kpo_async.localcluster.cluster import LocalCluster as same",
        "assert LocalCluster is same",
        "assert not hasattr(package, 'Nothing')",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


async def test_who_has_waited_for_the_kubeconfig_is_served(tmp_path: Path) -> None:
    async def connect() -> None:
        while not path.exists():  # noqa: ASYNC110 # in every turn of the cluster's event loop
            await asyncio.sleep(0)
        server = urlsplit(yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"])
        _, writer = await asyncio.open_connection(server.hostname, server.port)
        writer.close()
        await writer.wait_closed()

    path = tmp_path / "kubeconfig"
    client = asyncio.create_task(connect())
    async with LocalCluster(kubeconfig_path=path):
        await client


async def test_kubernetes_asyncio_works_unchanged() -> None:
    async with LocalCluster() as cluster:
        configuration = client.Configuration()
        await config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api:
            core = client.CoreV1Api(api)
            created = await core.create_namespaced_pod("default", pod("plain", "echo hello; sleep 0.3; exit 2"))
            phases = []
            async with watch.Watch().stream(
                core.list_namespaced_pod, "default", field_selector="metadata.name=plain", timeout_seconds=30
            ) as events:
                async for event in events:
                    phases.append(event["object"].status.phase)
                    if phases[-1] in ("Succeeded", "Failed"):
                        break
            assert phases[-1] == "Failed"
            listed = await core.list_namespaced_pod("default")
            assert [item.metadata.uid for item in listed.items] == [created.metadata.uid]
            assert listed.items[0].status.container_statuses[0].state.terminated.exit_code == 2
            assert await core.read_namespaced_pod_log("plain", "default") == "hello\n"
            await core.delete_namespaced_pod("plain", "default")
            with pytest.raises(client.ApiException) as gone:
                await core.read_namespaced_pod("plain", "default")
            assert gone.value.status == 404


async def test_kubernetes_asyncio_can_exec() -> None:
    async with LocalCluster() as cluster:
        configuration = client.Configuration()
        await config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api, WsApiClient(configuration) as streams:
            core = client.CoreV1Api(api)
            await core.create_namespaced_pod("default", pod("host", "sleep 600"))
            async with watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=30) as events:
                async for event in events:
                    if event["object"].status.phase == "Running":
                        break
            output = await client.CoreV1Api(streams).connect_get_namespaced_pod_exec(
                "host", "default", command=["echo", "hi"], stdout=True, stderr=True, stdin=False, tty=False
            )
            assert output == "hi\n"


async def test_requests_are_counted_in_the_metrics_of_a_real_server(cluster: LocalCluster, api: Api) -> None:
    before = cluster.requests.count("LIST", "pods")
    await api.get("pods")
    await api.get("pods", "nobody")
    await api.create("pods", asleep("one"))
    async with api.watch():
        text = (await api.get("/metrics")).raw.decode()
    assert cluster.requests.count("LIST", "pods") == before + 1
    labels = 'component="apiserver",dry_run="",group="",resource="pods"'
    rest = 'subresource="",verb="{}",version="v1"}} {}'
    for line in (
        f'apiserver_request_total{{code="200",{labels},scope="namespace",' + rest.format("LIST", 1),
        f'apiserver_request_total{{code="404",{labels},scope="resource",' + rest.format("GET", 1),
        f'apiserver_request_total{{code="201",{labels},scope="resource",' + rest.format("POST", 1),
        'apiserver_longrunning_requests{component="apiserver",group="",resource="pods",scope="namespace",'
        + rest.format("WATCH", 1),
    ):
        assert line in text.splitlines()


async def test_another_user_gets_its_own_kubeconfig(tmp_path: Path) -> None:
    async with LocalCluster() as cluster:
        path = cluster.write_kubeconfig(tmp_path / "guest", cluster.authenticator.add_user("guest"), "playground")
        assert path.stat().st_mode & 0o777 == 0o600
        async with aiohttp.ClientSession() as session:
            answer = await Api(session, Access.load(path), "playground").get("pods")
            await asyncio.sleep(0)
        assert answer.status == 403
        assert 'User "guest" cannot list resource "pods"' in answer.message


async def test_the_end_of_the_cluster_ends_watches_pods_and_files() -> None:
    async with LocalCluster() as cluster, aiohttp.ClientSession() as session:
        api = Api(session, Access.load(cluster.kubeconfig), "default")
        await api.run(pod("long", "sleep 987654"))
        async with api.watch() as watching:
            await watching.until(lambda event: event.object["status"].get("phase") == "Running")
            directory = cluster.directory
            await cluster.__aexit__(None, None, None)
            assert (await watching.rest())[-1].type in ("ADDED", "MODIFIED")
        assert not directory.exists()
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "987654"]]


async def test_a_port_in_use_is_an_error() -> None:
    async with LocalCluster(tls=False) as first:
        with pytest.raises(OSError, match="already in use"):
            async with LocalCluster(tls=False, port=first.listener.port):
                pass


def _get_version(kubeconfig: Path) -> int:
    """Return the status of a GET; for tests without an event loop."""

    async def get() -> int:
        async with aiohttp.ClientSession() as session:
            answer = await Api(session, Access.load(kubeconfig), "default").get("/version")
            await asyncio.sleep(0)
            return answer.status

    return asyncio.run(get())


def test_a_cluster_in_its_own_process_ends_with_its_context(tmp_path: Path) -> None:
    with LocalClusterProcess("--kubeconfig", str(tmp_path / "kubeconfig")) as cluster:
        assert cluster.kubeconfig == tmp_path / "kubeconfig"
        assert _get_version(cluster.kubeconfig) == 200
        assert cluster.pid is not None
        process = psutil.Process(cluster.pid)
        children = process.children(recursive=True)
    assert not process.is_running()
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_command_prints_its_kubeconfig_and_ends_on_a_signal(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "kpo_async.cli", "cluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert _get_version(path) == 200
        os.kill(process.pid, number)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert not path.exists()


async def test_only_clients_with_the_certificate_trust_the_server() -> None:
    async with LocalCluster() as cluster, aiohttp.ClientSession() as session:
        access = Access.load(cluster.kubeconfig)
        assert isinstance(access.tls, ssl.SSLContext)
        async with session.get(f"{cluster.url}/version", ssl=access.tls) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"{cluster.url}/version")
        await asyncio.sleep(0)
