"""The library's client and informer against the cluster under test: the promises of `kube/` hold there, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from kpo_async.compat import timeout
from kpo_async.exceptions import ConflictError, ForbiddenError, InvalidError, NotFoundError, UnauthorizedError
from kpo_async.kube import watch
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.kube.watch import Presence, Subscription, View
from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Api, Object, asleep, is_running, pod
from tests.factories import eventually

SELECTOR = "suite=conformance"


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[Client]:
    async with connect(ClusterSource(config_file=str(kubeconfig))) as client:
        yield client


def labelled(body: Object) -> Object:
    """The pod with the label that the informer selects."""
    return {**body, "metadata": {**body["metadata"], "labels": {"suite": "conformance"}}}


def follow(client: Client, created: Object) -> AbstractAsyncContextManager[Subscription]:
    metadata = created["metadata"]
    return watch.follow(client, metadata["namespace"], metadata["name"], metadata["uid"], selector=SELECTOR)


async def view_once(subscription: Subscription, wanted: Callable[[View], bool]) -> View:
    async with timeout(60):
        while True:
            view = await subscription.next()
            if wanted(view):
                return view


def exit_code(view: View) -> int | None:
    statuses = (view.pod and view.pod.status.container_statuses) or []
    ended = [status.state.terminated for status in statuses if status.state and status.state.terminated]
    return ended[0].exit_code if ended else None


async def test_objects_are_created_read_patched_and_deleted(api: Api, client: Client) -> None:
    body = {"metadata": {"name": "settings"}, "data": {"a": "1"}}
    created = await client.create("configmaps", body, api.namespace)
    await client.patch("configmaps", "settings", {"data": {"a": "2"}}, api.namespace)
    assert (await client.get("configmaps", "settings", api.namespace))["data"] == {"a": "2"}
    await client.delete("configmaps", "settings", api.namespace, uid=created["metadata"]["uid"])
    with pytest.raises(NotFoundError, match="settings"):
        await client.get("configmaps", "settings", api.namespace)


async def test_refusals_become_errors_with_the_servers_message(api: Api, client: Client) -> None:
    await client.create("pods", asleep("taken"), api.namespace)
    with pytest.raises(ConflictError, match="already exists"):
        await client.create("pods", asleep("taken"), api.namespace)
    with pytest.raises(ConflictError, match="does not match the UID in record"):
        await client.delete("pods", "taken", api.namespace, uid="another")
    with pytest.raises(InvalidError, match="RFC 1123"):
        await client.create("pods", asleep("Bad_Name"), api.namespace)
    with pytest.raises(NotFoundError, match="no-such"):
        await client.create("pods", asleep("lost"), "no-such")


async def test_a_dry_run_creates_nothing(api: Api, client: Client) -> None:
    await client.create("pods", asleep("dry"), api.namespace, dry_run=True)
    with pytest.raises(NotFoundError):
        await client.get("pods", "dry", api.namespace)


async def test_a_log_is_read_and_a_command_is_run(api: Api, client: Client) -> None:
    await api.run(pod("host", "echo hello; sleep 600"))
    await api.wait("host", is_running)
    log = client.log("host", api.namespace, container="base", follow=True, timestamps=False)
    async with timeout(30), log as chunks:
        assert await anext(aiter(chunks)) == b"hello\n"
    result = await client.exec("host", api.namespace, container="base", command=["sh", "-c", "echo out; exit 3"])
    assert (result.stdout, result.exit_code) == (b"out\n", 3)


async def test_the_version_is_known(client: Client) -> None:
    assert await client.version() >= (1, 29)


async def test_a_pod_is_followed_to_its_end_and_to_its_deletion(api: Api, client: Client) -> None:
    created = await api.run(labelled(pod("followed", "exit 7")))
    async with follow(client, created) as subscription:
        ended = await view_once(subscription, lambda view: exit_code(view) is not None)
        assert (ended.presence, exit_code(ended)) == (Presence.PRESENT, 7)
        await client.delete("pods", "followed", api.namespace, uid=created["metadata"]["uid"])
        gone = await view_once(subscription, lambda view: view.presence.final)
        assert (gone.presence, exit_code(gone)) == (Presence.GONE, 7)


async def test_a_reused_name_is_another_pod(api: Api, client: Client) -> None:
    first = await api.run(labelled(pod("again", "exit 1")))
    async with follow(client, first) as old:
        await view_once(old, lambda view: exit_code(view) == 1)
        await api.delete("pods", "again")
        gone = await view_once(old, lambda view: view.presence.final)
        second = await api.run(labelled(pod("again", "exit 2")))
        async with follow(client, second) as new:
            ended = await view_once(new, lambda view: exit_code(view) is not None)
    assert (gone.presence, exit_code(gone)) == (Presence.GONE, 1)
    assert (ended.presence, exit_code(ended)) == (Presence.PRESENT, 2)


async def test_a_pod_that_leaves_the_selection_is_not_gone(api: Api, client: Client) -> None:
    created = await api.run(labelled(asleep("leaving")))
    async with follow(client, created) as subscription:
        await view_once(subscription, lambda view: view.presence is Presence.PRESENT)
        await api.merge("pods", "leaving", {"metadata": {"labels": {"suite": None, "moved": "yes"}}})
        view = await view_once(
            subscription, lambda view: view.pod is not None and "moved" in (view.pod.metadata.labels or {})
        )
        assert view.presence is Presence.PRESENT


async def test_many_subscribers_cost_one_list_and_one_watch(api: Api, client: Client, embedded: LocalCluster) -> None:
    created = [await api.run(labelled(asleep(f"pod-{number}"))) for number in range(20)]
    before = embedded.requests.count()
    seen = []
    for one in created:
        async with follow(client, one) as subscription:
            seen.append((await view_once(subscription, lambda view: view.presence is Presence.PRESENT)).presence)
    counted = {verb: embedded.requests.count(verb, "pods") for verb in ("LIST", "WATCH", "GET")}
    assert len(seen) == 20
    assert embedded.requests.count() - before <= 2
    assert counted["GET"] == 0


RULES: dict[str, list[Object]] = {
    "watching single pods": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
    "only getting": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
async def test_least_rights_are_enough_to_follow_a_pod(api: Api, rules: list[Object]) -> None:
    token = await _token(api, rules)
    created = await api.run(labelled(pod("modest", "exit 5")))
    async with connect(await _source(api, token)) as worker:
        metadata = created["metadata"]
        async with watch.follow(
            worker, api.namespace, metadata["name"], metadata["uid"], selector=SELECTOR, poll_interval=0.2
        ) as subscription:
            view = await view_once(subscription, lambda view: exit_code(view) is not None)
    assert exit_code(view) == 5


async def test_missing_rights_and_credentials_are_told_apart(api: Api) -> None:
    async with connect(await _source(api, await _token(api, []))) as worker:
        with pytest.raises(ForbiddenError, match=f"system:serviceaccount:{api.namespace}:worker"):
            await worker.get("pods", "any", api.namespace)
        assert not await worker.review_access("create", "pods", api.namespace)
    async with connect(await _source(api, "no-token")) as stranger:
        with pytest.raises(UnauthorizedError):
            await stranger.get("pods", "any", api.namespace)


async def _token(api: Api, rules: list[Object]) -> str:
    group = "rbac.authorization.k8s.io"
    await api.create("serviceaccounts", {"metadata": {"name": "worker"}})
    await api.create(f"{group}/v1/roles", {"metadata": {"name": "worker"}, "rules": rules})
    binding = {
        "metadata": {"name": "worker"},
        "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": api.namespace}],
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "worker"},
    }
    await api.create(f"{group}/v1/rolebindings", binding)
    answer = await api.create("serviceaccounts", {"spec": {"expirationSeconds": 600}}, "worker", "token")
    token: str = answer.body["status"]["token"]
    return token


async def _source(api: Api, token: str) -> ClusterSource:
    """The same cluster as another identity. The certificate comes from the namespace, as it does in a pod."""

    async def is_published() -> bool:
        return (await api.get("configmaps", "kube-root-ca.crt")).status == 200

    await eventually(is_published)  # by a controller, a moment after the namespace was created
    authority = (await api.get("configmaps", "kube-root-ca.crt")).body["data"]["ca.crt"]
    return ClusterSource(config_dict=api.kubeconfig(token, authority))
