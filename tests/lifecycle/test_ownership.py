"""One pod for one try: created, found again, adopted, abandoned."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.exceptions import PodConflictError
from kpo_async.kube.client import Client
from kpo_async.localcluster import LocalCluster
from tests.factories import identity, manifest, owner, pod_exists, pod_task


async def test_creating_twice_finds_the_same_pod(client: Client) -> None:
    task = identity()
    first = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    second = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]


async def test_another_owners_pod_of_the_same_name_is_not_adopted(client: Client) -> None:
    fixed = {"name": "fixed", "random_name_suffix": False}
    mine, theirs = identity(), identity()
    await lifecycle.ensure_pod(client, manifest(theirs, "sleep 1000", **fixed), owner(theirs))
    with pytest.raises(PodConflictError, match="default/fixed exists already"):
        await lifecycle.ensure_pod(client, manifest(mine, "sleep 1000", **fixed), owner(mine))


async def test_a_retry_adopts_the_pod_that_the_earlier_try_left_running(client: Client) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    pod = await lifecycle.ensure_pod(client, manifest(second := identity(2), "sleep 1000"), owner(second))
    assert pod["metadata"]["uid"] == left["metadata"]["uid"]
    assert pod["metadata"]["annotations"]["kpo-async/owner"] == second.owner


async def test_a_pod_that_changes_while_a_retry_adopts_it_is_adopted(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    patch = client.patch

    async def late(resource: str, name: str, body: dict[str, Any], namespace: str) -> dict[str, Any]:
        monkeypatch.undo()
        await patch(resource, name, {"metadata": {"labels": {"changed": "meanwhile"}}}, namespace)
        return await patch(resource, name, body, namespace)

    monkeypatch.setattr(client, "patch", late)
    pod = await lifecycle.ensure_pod(client, manifest(second := identity(2), "sleep 1000"), owner(second))
    assert pod["metadata"]["uid"] == left["metadata"]["uid"]
    assert pod["metadata"]["annotations"]["kpo-async/owner"] == second.owner


async def test_a_retry_that_may_not_reattach_deletes_the_pod_left_running(client: Client) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    second = identity(2)
    pod = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000"), owner(second, reattach=False))
    assert not await pod_exists(client, left)
    assert await pod_exists(client, pod)


async def test_a_try_started_again_waits_for_its_own_deleted_pod_to_go(client: Client) -> None:
    task = identity()
    killed = await lifecycle.ensure_pod(client, manifest(task, "trap '' TERM; sleep 1000"), owner(task))
    await lifecycle.kill(client, pod_task(killed))
    pod = await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))
    assert pod["metadata"]["uid"] != killed["metadata"]["uid"]
    assert await pod_exists(client, pod)


async def test_an_abandoned_try_leaves_no_pod(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))
    await lifecycle.abandon(client, wanted, owner(task))
    assert not await pod_exists(client, pod)


async def test_a_pod_whose_labels_and_annotations_a_hook_removed_is_found_again(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    wanted["metadata"].update(labels={"only": "mine"}, annotations=None)
    first = await lifecycle.ensure_pod(client, wanted, owner(task))
    second = await lifecycle.ensure_pod(client, wanted, owner(task))
    assert first["metadata"]["uid"] == second["metadata"]["uid"]


async def test_an_abandoned_try_leaves_no_pod_whose_labels_a_hook_removed(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    wanted["metadata"]["labels"] = {"only": "mine"}
    pod = await lifecycle.ensure_pod(client, wanted, owner(task))
    await lifecycle.abandon(client, wanted, owner(task))
    assert not await pod_exists(client, pod)


async def test_a_retry_needs_no_right_to_list_pods(
    local_cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that it cannot see what an earlier try left, and makes a pod of its own; that is found again by name."""
    again = identity(try_number=2)
    wanted = manifest(again, "sleep 1000")
    with local_cluster.faults.forbid(verb="list", resource="pods"):
        pod = await lifecycle.ensure_pod(client, wanted, owner(again))
        assert "Cannot find out whether an earlier try left a pod running" in caplog.text
        await lifecycle.abandon(client, wanted, owner(again))
    assert not await pod_exists(client, pod)
