"""One pod for one try: created, found again, adopted, abandoned."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.exceptions import ConflictError, NotStartedError, PodConflictError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.localcluster import LocalCluster
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod_task import OnFinishAction
from tests.factories import NO_CALLBACKS, eventually, identity, manifest, owner, pod_exists, pod_task, retry_of


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


async def test_a_pod_is_created_although_other_creates_change_the_quota_at_that_moment(
    local_cluster: LocalCluster, client: Client
) -> None:
    task = identity()
    with local_cluster.faults.fail(409, verb="create", resource="pods", times=2):
        await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))


async def test_a_conflict_with_no_pod_of_that_name_is_raised_in_the_end(
    local_cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_budget", 1.0)
    task = identity()
    with (
        local_cluster.faults.fail(409, verb="create", resource="pods"),
        pytest.raises(ConflictError, match="Operation cannot be fulfilled on resourcequotas"),
    ):
        await lifecycle.ensure_pod(client, manifest(task, "sleep 1000"), owner(task))


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


async def test_a_pod_that_ends_while_a_retry_adopts_it_is_finished(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 0.5"), owner(first))
    patch = client.patch

    async def ended() -> bool:
        return bool((await client.get("pods", left["metadata"]["name"], "default"))["status"]["phase"] == "Succeeded")

    async def late(resource: str, name: str, body: dict[str, Any], namespace: str) -> dict[str, Any]:
        monkeypatch.undo()
        await eventually(ended)
        return await patch(resource, name, body, namespace)

    monkeypatch.setattr(client, "patch", late)
    pod = await lifecycle.ensure_pod(client, manifest(second := identity(2), "sleep 1000"), owner(second))
    assert pod["metadata"]["uid"] != left["metadata"]["uid"]
    assert not await pod_exists(client, left)


async def test_a_retry_that_may_not_reattach_deletes_the_pod_left_running(client: Client) -> None:
    left = await lifecycle.ensure_pod(client, manifest(first := identity(1), "sleep 1000"), owner(first))
    second = identity(2)
    pod = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000"), owner(second, reattach=False))
    assert not await pod_exists(client, left)
    assert await pod_exists(client, pod)


async def test_a_try_started_again_waits_for_its_own_deleted_pod_to_go(client: Client) -> None:
    task = identity()
    killed = await lifecycle.ensure_pod(client, manifest(task, "trap '' TERM; sleep 1000"), owner(task))
    terms = pod_task(killed)
    await lifecycle.kill(lifecycle.pod_of(client, terms), terms, owner=terms.owner)
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


async def make(client: Client, task: TaskIdentity, script: str = "sleep 1000", **fields: Any) -> Json:
    """The pod of this try, whose owner has these fields."""
    return await lifecycle.ensure_pod(client, manifest(task, script), owner(task, **fields))


async def test_a_cleared_try_is_not_continued(client: Client) -> None:
    """Clearing raises Airflow's max_tries, a retry after a lost worker does not."""
    first = identity()
    left = await make(client, first, max_tries=2)
    pod = await make(client, retry_of(first), max_tries=3)
    assert pod["metadata"]["uid"] != left["metadata"]["uid"]
    assert not await pod_exists(client, left)


async def test_the_pod_of_a_cleared_try_is_deleted_with_the_grace_that_its_task_asked_for(client: Client) -> None:
    first = identity()
    script = "trap '' TERM; echo trapped; while true; do sleep 0.1; done"
    left = await make(client, first, script, max_tries=2, grace_period=7)

    async def ignores_sigterm() -> bool:
        with suppress(NotStartedError):
            async with PodHandle.of(client, left).log("base") as chunks:
                return b"trapped" in b"".join([chunk async for chunk in chunks])
        return False

    await eventually(ignores_sigterm)
    await make(client, retry_of(first), max_tries=3)
    dying = await PodHandle.of(client, left).get()
    assert dying is not None
    assert dying["metadata"]["deletionGracePeriodSeconds"] == 7


async def test_a_pod_of_an_older_version_is_adopted(client: Client) -> None:
    first = identity()
    left = await make(client, first)
    await PodHandle.of(client, left).patch({"metadata": {"annotations": {"kpo-async/task": None}}})
    pod = await make(client, retry_of(first), max_tries=3)
    assert pod["metadata"]["uid"] == left["metadata"]["uid"]


@pytest.mark.parametrize(
    ("action", "script", "kept"),
    [
        pytest.param(OnFinishAction.DELETE_POD, "exit 1", False, id="delete_pod"),
        pytest.param(OnFinishAction.KEEP_POD, "exit 0", True, id="keep_pod"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 0", False, id="delete_succeeded_pod that succeeded"),
        pytest.param(OnFinishAction.DELETE_SUCCEEDED_POD, "exit 1", True, id="delete_succeeded_pod that failed"),
    ],
)
async def test_the_ended_pod_of_an_earlier_try_is_deleted_or_kept_as_its_task_asked(
    client: Client, action: OnFinishAction, script: str, kept: bool
) -> None:
    first = identity()
    left = await make(client, first, script, on_finish_action=action)
    await lifecycle.wait(client, pod_task(left), NO_CALLBACKS)
    pod = await make(client, retry_of(first), on_finish_action=OnFinishAction.DELETE_POD)
    assert pod["metadata"]["uid"] != left["metadata"]["uid"]
    assert await pod_exists(client, left) is kept


async def test_a_kept_pod_is_adopted_by_no_try(client: Client) -> None:
    first = identity()
    kept = await make(client, first)
    terms = pod_task(kept, on_finish_action=OnFinishAction.KEEP_POD)
    await lifecycle.finish(lifecycle.pod_of(client, terms), terms, succeeded=False)
    pod = await make(client, retry_of(first))
    assert pod["metadata"]["uid"] != kept["metadata"]["uid"]
    assert await pod_exists(client, kept)


async def test_a_second_pod_of_one_try_has_another_name_than_the_first_which_is_kept(client: Client) -> None:
    task = identity()
    uids = set()
    for _ in range(3):
        kept = await make(client, task, "exit 0")
        terms = pod_task(kept, on_finish_action=OnFinishAction.KEEP_POD)
        await lifecycle.wait(client, terms, NO_CALLBACKS)
        await lifecycle.finish(lifecycle.pod_of(client, terms), terms, succeeded=True)
        uids.add(kept["metadata"]["uid"])
    assert len(uids) == 3


async def test_a_users_own_name_that_a_kept_pod_has_is_a_conflict(client: Client) -> None:
    task = identity()
    wanted = manifest(task, "exit 0", name="fixed", random_name_suffix=False)
    kept = await lifecycle.ensure_pod(client, wanted, owner(task))
    terms = pod_task(kept, on_finish_action=OnFinishAction.KEEP_POD)
    await lifecycle.finish(lifecycle.pod_of(client, terms), terms, succeeded=True)
    with pytest.raises(PodConflictError, match="default/fixed exists already"):
        await lifecycle.ensure_pod(client, wanted, owner(task))


async def test_a_retry_waits_for_the_users_own_name_to_become_free(client: Client) -> None:
    first = identity()
    second = retry_of(first)
    fixed = {"name": "fixed", "random_name_suffix": False}
    killed = await lifecycle.ensure_pod(client, manifest(first, "trap '' TERM; sleep 1000", **fixed), owner(first))
    await PodHandle.of(client, killed).delete()
    pod = await lifecycle.ensure_pod(client, manifest(second, "sleep 1000", **fixed), owner(second))
    assert pod["metadata"]["uid"] != killed["metadata"]["uid"]


async def test_pods_of_another_airflow_with_the_same_dag_are_left_alone(client: Client) -> None:
    """Two Airflows, test and production, often have the same names and share a namespace."""
    theirs = identity()
    pod = await make(client, theirs, installation="test")
    ours = await make(client, identity(), installation="production")
    retried = await make(client, retry_of(theirs), installation="production")
    uids = {found["metadata"]["uid"] for found in (pod, ours)}
    assert len(uids) == 2
    assert retried["metadata"]["uid"] == ours["metadata"]["uid"]
    assert await pod_exists(client, pod)


class TestWithoutTheRightToList:
    """The name of an earlier try's pod follows from the try, so the right to `get` pods is enough."""

    @pytest.fixture(autouse=True)
    def no_right_to_list(self, local_cluster: LocalCluster) -> Iterator[None]:
        with local_cluster.faults.forbid(verb="list", resource="pods"):
            yield

    async def test_a_retry_adopts_the_pod_that_the_earlier_try_left_running(self, client: Client) -> None:
        first = identity()
        left = await make(client, first)
        second = retry_of(first)
        third = await make(client, retry_of(second, 3))
        assert third["metadata"]["uid"] == left["metadata"]["uid"]

    async def test_a_cleared_try_is_not_continued(self, client: Client) -> None:
        first = identity()
        left = await make(client, first, max_tries=0)
        await make(client, retry_of(first), max_tries=1)
        assert not await pod_exists(client, left)

    async def test_an_abandoned_try_leaves_no_pod(self, client: Client) -> None:
        task = identity(try_number=2)
        pod = await make(client, task)
        await lifecycle.abandon(client, manifest(task, "sleep 1000"), owner(task))
        assert not await pod_exists(client, pod)

    async def test_without_the_right_to_get_either_a_warning_says_so(
        self, local_cluster: LocalCluster, client: Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        with local_cluster.faults.forbid(verb="get", resource="pods"):
            assert await make(client, identity(try_number=2))
        assert "Cannot find out whether an earlier try left a pod" in caplog.text


async def test_a_task_killed_before_it_knew_its_pod_leaves_none_of_any_try(client: Client) -> None:
    first = identity()
    second = retry_of(first)
    left = await make(client, first)
    await lifecycle.kill_all(client, manifest(second, "sleep 1000"), owner(second))
    assert not await pod_exists(client, left)


@pytest.mark.parametrize("function", [lifecycle.kill_all, lifecycle.kill_own, lifecycle.abandon])
async def test_a_create_that_is_under_way_when_its_task_ends_leaves_no_pod(
    local_cluster: LocalCluster, client: Client, function: Callable[..., Awaitable[None]]
) -> None:
    task = identity()
    wanted = manifest(task, "sleep 1000")
    with local_cluster.faults.delay(0.5, verb="create", resource="pods") as fault:
        creating = asyncio.create_task(lifecycle.ensure_pod(client, wanted, owner(task)))
        await fault.struck()
        creating.cancel()
        await asyncio.wait([creating])
        await function(client, wanted, owner(task))
    # Nothing has looked for it too early, and it did not arrive later.
    assert fault.hits == 1
    [pod] = (await client.list("pods", "default"))["items"]
    assert "deletionTimestamp" in pod["metadata"]


async def test_an_abandoned_retry_leaves_the_earlier_trys_pod_to_the_next_one(client: Client) -> None:
    first = identity()
    second = retry_of(first)
    left = await make(client, first)
    await lifecycle.abandon(client, manifest(second, "sleep 1000"), owner(second))
    assert await pod_exists(client, left)
