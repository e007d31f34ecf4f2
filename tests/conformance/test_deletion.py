"""Deletion: preconditions, grace, watches, eviction, finalizers."""

from __future__ import annotations

from kpo_async.compat import timeout
from tests.conformance.api import Api, Object, asleep, has_ended, is_running, pod, state

STOPS_AT_ONCE = "trap 'exit 0' TERM; echo ready; sleep 600 & wait"
IGNORES_SIGTERM = "trap '' TERM; echo ready; sleep 600 & wait; sleep 600"


def _options(**preconditions: str) -> Object:
    return {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}


async def _run_until_ready(api: Api, body: Object) -> None:
    """Start a pod and wait until its shell has set its trap: a signal that comes earlier is lost."""
    name = (await api.run(body))["metadata"]["name"]
    await api.wait(name, is_running)
    async with timeout(30), api.stream("pods", name, "log", follow="true") as log:
        assert await log.content.readline() == b"ready\n"


async def test_the_wrong_uid_is_409_and_deletes_nothing(api: Api) -> None:
    created = (await api.create("pods", asleep("mine"))).body
    answer = await api.delete("pods", "mine", _options(uid="not-this-one"))
    assert answer.status == 409
    assert answer.body["reason"] == "Conflict"
    uid = created["metadata"]["uid"]
    assert f"the UID in the precondition (not-this-one) does not match the UID in record ({uid})" in answer.message
    assert (await api.get("pods", "mine")).status == 200


async def test_the_right_uid_deletes(api: Api) -> None:
    created = (await api.create("pods", asleep("mine"))).body
    answer = await api.delete("pods", "mine", _options(uid=created["metadata"]["uid"]))
    assert answer.status == 200
    assert (await api.get("pods", "mine")).status == 404


async def test_an_old_version_in_a_precondition_is_409(api: Api) -> None:
    created = (await api.create("pods", asleep("mine"))).body
    await api.merge("pods", "mine", {"metadata": {"labels": {"a": "b"}}})
    answer = await api.delete("pods", "mine", _options(resourceVersion=created["metadata"]["resourceVersion"]))
    assert answer.status == 409
    assert "the ResourceVersion in the precondition" in answer.message


async def test_a_dry_run_deletes_nothing(api: Api) -> None:
    await api.create("pods", asleep("mine"))
    assert (await api.delete("pods", "mine", dryRun="All")).status == 200
    found = (await api.get("pods", "mine")).body
    assert "deletionTimestamp" not in found["metadata"]


async def test_deleting_a_missing_pod_is_404(api: Api) -> None:
    answer = await api.delete("pods", "nobody")
    assert (answer.status, answer.message) == (404, 'pods "nobody" not found')


async def test_a_pod_without_a_node_is_marked_and_removed_immediately(api: Api) -> None:
    async with api.watch(fieldSelector="metadata.name=idle") as watch:
        await api.create("pods", asleep("idle"))
        answer = await api.delete("pods", "idle")
        await watch.until(lambda event: event.type == "DELETED")
    assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 0
    assert [event.type for event in watch.seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert "deletionTimestamp" in watch.seen[1].object["metadata"]
    assert watch.seen[2].object["metadata"]["deletionGracePeriodSeconds"] == 0


async def test_a_running_pod_is_given_its_grace(api: Api) -> None:
    await _run_until_ready(api, pod("polite", STOPS_AT_ONCE, terminationGracePeriodSeconds=20))
    async with api.watch(fieldSelector="metadata.name=polite") as watch:
        before = await watch.next()
        answer = (await api.delete("pods", "polite")).body
        gone = await watch.until(lambda event: event.type == "DELETED", 15)

    assert answer["metadata"]["deletionGracePeriodSeconds"] == 20
    assert answer["metadata"]["deletionTimestamp"] > answer["metadata"]["creationTimestamp"]
    assert before is not None
    assert "deletionTimestamp" not in before.object["metadata"]
    marked = watch.seen[1]
    assert (marked.type, marked.object["metadata"]["deletionGracePeriodSeconds"]) == ("MODIFIED", 20)
    assert state(marked.object)["running"]
    assert gone.object["metadata"]["deletionGracePeriodSeconds"] == 0
    assert state(gone.object)["terminated"]["exitCode"] == 0


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(api: Api) -> None:
    await _run_until_ready(api, pod("stubborn", IGNORES_SIGTERM))
    async with api.watch(fieldSelector="metadata.name=stubborn") as watch:
        await api.delete("pods", "stubborn", gracePeriodSeconds="1")
        gone = await watch.until(lambda event: event.type == "DELETED", 30)
    assert state(gone.object)["terminated"]["exitCode"] == 137


async def test_grace_0_removes_the_pod_immediately(api: Api) -> None:
    await _run_until_ready(api, pod("forced", IGNORES_SIGTERM, terminationGracePeriodSeconds=600))
    async with api.watch(fieldSelector="metadata.name=forced") as watch:
        assert (await api.delete("pods", "forced", gracePeriodSeconds="0")).status == 200
        assert (await api.get("pods", "forced")).status == 404
        gone = await watch.until(lambda event: event.type == "DELETED", 5)
    assert gone.object["status"]["phase"] == "Running"


async def test_a_second_deletion_may_shorten_the_grace_but_not_prolong_it(api: Api) -> None:
    await _run_until_ready(api, pod("twice", IGNORES_SIGTERM, terminationGracePeriodSeconds=600))
    first = (await api.delete("pods", "twice")).body["metadata"]
    longer = (await api.delete("pods", "twice", gracePeriodSeconds="900")).body["metadata"]
    shorter = (await api.delete("pods", "twice", gracePeriodSeconds="300")).body["metadata"]
    assert [meta["deletionGracePeriodSeconds"] for meta in (first, longer, shorter)] == [600, 600, 300]
    assert shorter["deletionTimestamp"] < longer["deletionTimestamp"] == first["deletionTimestamp"]


async def test_a_pod_that_has_ended_is_removed_immediately(api: Api) -> None:
    await api.finish(pod("done"))
    assert (await api.delete("pods", "done")).status == 200
    assert (await api.get("pods", "done")).status == 404


async def test_a_pod_is_kept_until_its_finalizer_is_removed(api: Api) -> None:
    async with api.watch(fieldSelector="metadata.name=kept") as watch:
        await api.create("pods", asleep("kept", finalizers=["example.com/hold"]))
        await api.delete("pods", "kept")
        marked = (await api.get("pods", "kept")).body
        assert "deletionTimestamp" in marked["metadata"]
        await api.merge("pods", "kept", {"metadata": {"finalizers": None}})
        await watch.until(lambda event: event.type == "DELETED")
    assert (await api.get("pods", "kept")).status == 404


async def test_a_finalizer_outlives_the_containers(api: Api) -> None:
    body = pod("held", STOPS_AT_ONCE)
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await _run_until_ready(api, body)
    await api.delete("pods", "held")
    left = await api.wait("held", lambda obj: obj["metadata"].get("deletionGracePeriodSeconds") == 0)
    assert state(left)["terminated"]["exitCode"] == 0
    await api.merge("pods", "held", {"metadata": {"finalizers": None}})
    assert (await api.get("pods", "held")).status == 404


async def test_an_eviction_writes_its_reason_to_the_pod_and_deletes_it(api: Api) -> None:
    await _run_until_ready(api, pod("evicted", STOPS_AT_ONCE))
    async with api.watch(fieldSelector="metadata.name=evicted") as watch:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "evicted"}}
        answer = await api.create("pods", body, "evicted", "eviction")
        gone = await watch.until(lambda event: event.type == "DELETED")
    assert (answer.status, answer.body["status"]) == (201, "Success")
    conditions = {condition["type"]: condition for condition in gone.object["status"]["conditions"]}
    assert conditions["DisruptionTarget"]["status"] == "True"
    assert conditions["DisruptionTarget"]["reason"] == "EvictionByEvictionAPI"
    assert conditions["DisruptionTarget"]["message"] == "Eviction API: evicting"


async def test_a_dry_run_of_an_eviction_changes_nothing(api: Api) -> None:
    await api.create("pods", asleep("safe"))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "safe"}}
    answer = await api.create("pods", {**body, "deleteOptions": {"dryRun": ["All"]}}, "safe", "eviction")
    assert answer.status == 201
    assert "deletionTimestamp" not in (await api.get("pods", "safe")).body["metadata"]


async def test_a_collection_is_deleted_by_its_labels(api: Api) -> None:
    await api.create("pods", asleep("stays"))
    for name in ("goes-1", "goes-2"):
        await api.create("pods", asleep(name, labels={"batch": "x"}))
    answer = await api.delete("pods", labelSelector="batch=x")
    assert answer.status == 200
    assert answer.body["kind"] == "PodList"
    assert [item["metadata"]["name"] for item in (await api.get("pods")).body["items"]] == ["stays"]


async def test_a_new_pod_with_the_same_name_has_another_uid(api: Api) -> None:
    async with api.watch(fieldSelector="metadata.name=again") as watch:
        first = await api.finish(pod("again"))
        await api.delete("pods", "again")
        second = await api.run(pod("again"))
        uid = second["metadata"]["uid"]
        await watch.until(lambda event: event.object["metadata"]["uid"] == uid and has_ended(event.object))
    uids = list(dict.fromkeys(event.object["metadata"]["uid"] for event in watch.seen))
    assert uids == [first["metadata"]["uid"], uid]


async def test_the_name_of_a_terminating_pod_is_in_use(api: Api) -> None:
    await api.create("pods", asleep("dying", finalizers=["example.com/hold"]))
    await api.delete("pods", "dying")
    answer = await api.create("pods", asleep("dying"))
    assert (answer.status, answer.message) == (409, 'object is being deleted: pods "dying" already exists')
    await api.merge("pods", "dying", {"metadata": {"finalizers": None}})


async def test_deleting_a_config_map_returns_a_status(api: Api) -> None:
    created = (await api.create("configmaps", {"metadata": {"name": "settings"}})).body
    answer = (await api.delete("configmaps", "settings")).body
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "settings", "kind": "configmaps", "uid": created["metadata"]["uid"]}
