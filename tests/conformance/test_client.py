"""The library's client against the cluster under test: its assumptions about API servers hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from kpo_async.exceptions import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotStartedError,
    UnauthorizedError,
)
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client, connect
from tests.conformance.api import Api, asleep, is_running, pod
from tests.conformance.test_access import LEAST_RIGHTS, _account


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[Client]:
    async with connect(ClusterSource(config_file=str(kubeconfig))) as client:
        yield client


def with_user(kubeconfig: Path, user: dict[str, object]) -> ClusterSource:
    """The same cluster with other credentials."""
    document = yaml.safe_load(kubeconfig.read_text())
    for entry in document["users"]:
        entry["user"] = user
    for entry in document["clusters"]:
        if path := entry["cluster"].get("certificate-authority"):
            entry["cluster"]["certificate-authority"] = str(kubeconfig.parent / path)
    return ClusterSource(config_dict=document)


async def test_a_field_that_the_server_does_not_know_is_logged(
    client: Client, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    body = pod("typo", "true", securityContext={"run_as_user": 1})
    await client.create("pods", body, api.namespace, dry_run=True)
    assert 'The API server warns: unknown field "spec.securityContext.run_as_user"' in caplog.text


async def test_an_object_from_creation_to_deletion(client: Client, api: Api) -> None:
    body = {"metadata": {"name": "settings"}, "data": {"a": "1"}}
    assert (await client.create("configmaps", body, api.namespace, dry_run=True))["data"] == {"a": "1"}
    with pytest.raises(NotFoundError):
        await client.get("configmaps", "settings", api.namespace)
    made = await client.create("configmaps", body, api.namespace)
    with pytest.raises(ConflictError):
        await client.create("configmaps", body, api.namespace)
    patched = await client.patch("configmaps", "settings", {"data": {"a": None, "b": "2"}}, api.namespace)
    assert patched["data"] == {"b": "2"}
    with pytest.raises(ConflictError):
        await client.delete("configmaps", "settings", api.namespace, uid="of-another")
    await client.delete("configmaps", "settings", api.namespace, uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError) as caught:
        await client.get("configmaps", "settings", api.namespace)
    assert (caught.value.code, caught.value.reason) == (404, "NotFound")


async def test_lists_are_selected_and_come_in_pages(client: Client, api: Api) -> None:
    for number in range(5):
        labels = {"parity": "odd" if number % 2 else "even"}
        await client.create("configmaps", {"metadata": {"name": f"c{number}", "labels": labels}}, api.namespace)
    odd = await client.list("configmaps", api.namespace, label_selector="parity=odd")
    assert [item["metadata"]["name"] for item in odd["items"]] == ["c1", "c3"]
    first = await client.list("configmaps", api.namespace, label_selector="parity", limit=3)
    token = first["metadata"]["continue"]
    second = await client.list("configmaps", api.namespace, label_selector="parity", limit=3, continue_token=token)
    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert names == [f"c{number}" for number in range(5)]


async def test_a_wrong_manifest_is_invalid_with_the_servers_message(client: Client, api: Api) -> None:
    with pytest.raises(InvalidError, match=r"spec\.containers"):
        await client.create("pods", {"metadata": {"name": "x"}, "spec": {"containers": []}}, api.namespace)


async def test_an_exec_returns_output_and_exit_code(client: Client, api: Api) -> None:
    await api.run(pod("awake", "sleep 60"))
    await api.wait("awake", is_running)
    result = await client.exec(
        "awake", api.namespace, container="base", command=["sh", "-c", "echo out; echo err >&2; exit 3"]
    )
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    with pytest.raises(NotFoundError, match='pods "gone" not found'):
        await client.exec("gone", api.namespace, container="base", command=["true"])


async def test_a_log_is_read_and_followed(client: Client, api: Api) -> None:
    await api.finish(pod("talks", "echo one; echo two"))
    async with client.log("talks", api.namespace, container="base", timestamps=False) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"one\ntwo\n"
    async with client.log("talks", api.namespace, container="base", tail_lines=1) as chunks:
        stamp, _, text = b"".join([chunk async for chunk in chunks]).decode().partition(" ")
    assert text == "two\n"
    async with client.log("talks", api.namespace, container="base", since_time=stamp, follow=True) as chunks:
        assert b"".join([chunk async for chunk in chunks]).decode().endswith(" two\n")


async def test_an_unscheduled_pod_has_no_log_yet(client: Client, api: Api) -> None:
    await client.create("pods", asleep("nowhere"), api.namespace)
    async with client.log("nowhere", api.namespace, container="base") as chunks:
        assert [chunk async for chunk in chunks] == []


async def test_a_container_that_is_waiting_has_no_log_yet(client: Client, api: Api) -> None:
    body = pod("waiting", "true")
    body["spec"]["initContainers"] = [{**body["spec"]["containers"][0], "name": "first", "command": ["sleep", "60"]}]
    await client.create("pods", body, api.namespace)
    await api.wait("waiting", lambda found: "running" in json.dumps(found["status"].get("initContainerStatuses", {})))
    with pytest.raises(NotStartedError, match="waiting to start"):
        await client.log("waiting", api.namespace, container="base").__aenter__()


async def test_a_watch_delivers_changes(client: Client, api: Api) -> None:
    version = (await client.list("configmaps", api.namespace))["metadata"]["resourceVersion"]
    async with client.watch("configmaps", api.namespace, resource_version=version, timeout_seconds=60) as chunks:
        await client.create("configmaps", {"metadata": {"name": "news"}}, api.namespace)
        received = b""
        async for chunk in chunks:
            received += chunk
            if received.endswith(b"\n"):
                break
    event = json.loads(received.splitlines()[0])
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "news")


async def test_missing_rights_are_named(kubeconfig: Path, api: Api) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    source = await asyncio.to_thread(with_user, kubeconfig, {"token": worker.access.token})
    async with connect(source) as client:
        assert await client.review_access("get", "pods/log", api.namespace)
        assert not await client.review_access("list", "pods", api.namespace)
        await client.create("pods", pod("mine", "true"), api.namespace)
        with pytest.raises(ForbiddenError) as caught:
            await client.list("pods", api.namespace)
        with pytest.raises(ForbiddenError, match=r"may not (get|create) pods/exec in namespace"):
            await client.exec("mine", api.namespace, container="base", command=["true"])
    assert str(caught.value) == (
        f'system:serviceaccount:{api.namespace}:worker may not list pods in namespace "{api.namespace}" '
        f'(list pods in namespace "{api.namespace}"); bind a Role with this verb and resource to it'
    )


async def test_a_mounted_service_account_is_used(
    kubeconfig: Path, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    admin = await load(ClusterSource(config_file=str(kubeconfig)))
    authority = admin.ca_data or await asyncio.to_thread(Path(str(admin.ca_file)).read_text)
    for name, content in (("token", worker.access.token), ("ca.crt", authority), ("namespace", api.namespace)):
        (tmp_path / name).write_text(content)
    address = urlsplit(admin.server)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    monkeypatch.setattr("kpo_async.kube.auth.config.SERVICE_ACCOUNT", str(tmp_path))
    async with connect(ClusterSource()) as client:
        assert client.config.namespace == api.namespace
        await client.create("pods", asleep("mine"), api.namespace)
        # A second client, whose token is replaced by a wrong one while it is in use and then put right.
        (tmp_path / "token").write_text("expired")
        async with Client(client.config) as other:
            with pytest.raises(UnauthorizedError):
                await other.get("pods", "mine", api.namespace)
            (tmp_path / "token").write_text(worker.access.token)
            assert (await other.get("pods", "mine", api.namespace))["metadata"]["name"] == "mine"


@pytest.mark.usefixtures("api")
async def test_a_wrong_token_is_unauthorized(kubeconfig: Path) -> None:
    source = await asyncio.to_thread(with_user, kubeconfig, {"token": "wrong"})
    async with connect(source) as client:
        with pytest.raises(UnauthorizedError, match="rejects the credentials"):
            await client.list("pods", "default")


@pytest.mark.usefixtures("api")
async def test_the_version_is_known(client: Client) -> None:
    major, minor = await client.version()
    assert major == 1
    assert minor >= 29
