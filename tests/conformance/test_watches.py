"""WATCH, as measured on a real server: where it starts, what it repeats, what it sends, how it ends."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.compat import timeout
from tests.conformance.api import Api, Event, Object, asleep


async def _version(api: Api) -> str:
    """Return the current version of the cluster."""
    version: str = (await api.get("pods")).body["metadata"]["resourceVersion"]
    return version


async def test_a_watch_from_a_version_sends_every_later_change_in_order(api: Api) -> None:
    version = await _version(api)
    await api.create("pods", asleep("one"))
    await api.merge("pods", "one", {"metadata": {"labels": {"seen": "yes"}}})
    await api.delete("pods", "one")
    async with api.watch(resourceVersion=version, timeoutSeconds="1") as watch:
        events = await watch.rest()

    assert [event.type for event in events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert "labels" not in events[0].object["metadata"]
    assert events[1].object["metadata"]["labels"] == {"seen": "yes"}
    versions = [int(event.version) for event in events]
    assert versions == sorted(set(versions))


@pytest.mark.parametrize("version", [{}, {"resourceVersion": "0"}], ids=["unset", "zero"])
async def test_a_watch_without_a_version_starts_with_the_current_objects(api: Api, version: dict[str, str]) -> None:
    for name in ("a", "b"):
        await api.create("pods", asleep(name))
    # A watch from the cache may miss the latest writes; a consistent read waits for the cache.
    await api.get("pods")
    async with api.watch(timeoutSeconds="1", **version) as watch:
        events = await watch.rest()
    assert [(event.type, event.name) for event in events] == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_resumed_watch_repeats_nothing_and_loses_nothing(api: Api) -> None:
    async with api.watch(resourceVersion=await _version(api)) as watch:
        await api.create("pods", asleep("first"))
        event = await watch.until(lambda event: event.name == "first")
    await api.create("pods", asleep("second"))
    await api.delete("pods", "first")
    async with api.watch(resourceVersion=event.version, timeoutSeconds="1") as watch:
        names = [(event.type, event.name) for event in await watch.rest()]
    assert names == [("ADDED", "second"), ("MODIFIED", "first"), ("DELETED", "first")]


async def test_a_watch_resumes_from_the_version_of_a_deletion(api: Api) -> None:
    async with api.watch(resourceVersion=await _version(api)) as watch:
        await api.create("pods", asleep("gone"))
        await api.delete("pods", "gone")
        deleted = await watch.until(lambda event: event.type == "DELETED")
    await api.create("pods", asleep("next"))
    async with api.watch(resourceVersion=deleted.version, timeoutSeconds="1") as watch:
        assert [event.name for event in await watch.rest()] == ["next"]


async def test_with_a_label_selector_a_gained_label_is_added_and_a_lost_one_deleted(api: Api) -> None:
    def label(value: str | None) -> Object:
        return {"metadata": {"labels": {"colour": value}}}

    async with api.watch(labelSelector="colour=red", resourceVersion=await _version(api), timeoutSeconds="2") as watch:
        await api.create("pods", asleep("chameleon"))
        await api.merge("pods", "chameleon", label("red"))
        await api.merge("pods", "chameleon", {"metadata": {"annotations": {"note": "x"}}})
        left = await api.merge("pods", "chameleon", label("green"))
        events = await watch.rest()

    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    gone = events[-1].object
    assert gone["metadata"]["labels"] == {"colour": "red"}
    assert gone["metadata"]["resourceVersion"] == left.body["metadata"]["resourceVersion"]
    assert "deletionTimestamp" not in gone["metadata"]


async def test_a_field_selector_selects_one_pod(api: Api) -> None:
    async with api.watch(
        fieldSelector="metadata.name=two", resourceVersion=await _version(api), timeoutSeconds="1"
    ) as watch:
        for name in ("one", "two", "three"):
            await api.create("pods", asleep(name))
        assert [event.name for event in await watch.rest()] == ["two"]


async def test_a_watch_ends_by_itself_after_its_timeout(api: Api) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with api.watch(resourceVersion=await _version(api), timeoutSeconds="1") as watch:
        assert await watch.rest() == []
    assert 0.9 <= loop.time() - begin < 10


async def test_the_headers_of_a_quiet_watch_arrive_immediately(api: Api) -> None:
    version = await _version(api)
    async with timeout(5), api.watch(resourceVersion=version) as watch:
        assert watch.response.headers["Content-Type"] == "application/json"


async def test_a_watch_in_a_namespace_that_does_not_exist_is_silent(api: Api) -> None:
    async with api.watch("/api/v1/namespaces/no-such/pods", timeoutSeconds="1") as watch:
        assert await watch.rest() == []


async def test_a_watch_from_a_version_in_the_future_is_silent(api: Api) -> None:
    await api.create("pods", asleep("before"))
    async with api.watch(resourceVersion="99999999999", timeoutSeconds="1") as watch:
        await api.create("pods", asleep("during"))
        assert await watch.rest() == []


async def test_a_malformed_version_is_500_without_a_reason(api: Api) -> None:
    answer = await api.get("pods", watch="true", resourceVersion="abc")
    assert answer.status == 500
    assert "reason" not in answer.body
    assert "Invalid value" in answer.message


async def test_a_version_that_is_too_old_is_an_error_in_the_stream(api: Api) -> None:
    """An API server remembers all versions since its start for a while, so a new cluster's has to be restarted once."""
    async with api.watch(resourceVersion="1") as watch:
        [event] = await watch.rest()
    assert event.type == "ERROR"
    assert event.object["kind"] == "Status"
    assert event.object["code"] == 410
    assert event.object["reason"] == "Expired"
    assert event.object["message"].startswith("too old resource version: 1 (")


async def test_a_bookmark_ends_the_initial_events(api: Api) -> None:
    await api.create("pods", asleep("there"))
    await api.get("pods")
    async with api.watch(allowWatchBookmarks="true", timeoutSeconds="1") as watch:
        events = await watch.rest()
    # Others may follow: the server sends one before the end of a watch if pods of other namespaces changed.
    assert [event.type for event in events[:2]] == ["ADDED", "BOOKMARK"]
    assert {event.type for event in events[2:]} <= {"BOOKMARK"}
    metadata = events[1].object["metadata"]
    assert metadata.pop("resourceVersion")
    assert metadata == {"annotations": {"k8s.io/initial-events-end": "true"}}
    assert events[1].object["kind"] == "Pod"
    assert events[1].object["spec"] == {"containers": None}
    assert events[1].object["status"] == {}


async def test_a_watch_can_start_with_a_streamed_list(api: Api) -> None:
    for name in ("a", "b"):
        await api.create("pods", asleep(name))
    async with api.watch(
        sendInitialEvents="true", resourceVersionMatch="NotOlderThan", allowWatchBookmarks="true", timeoutSeconds="30"
    ) as watch:
        end = await watch.until(lambda event: event.type == "BOOKMARK")
        assert [(event.type, event.name) for event in watch.seen[:-1]] == [("ADDED", "a"), ("ADDED", "b")]
        assert end.object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        await api.create("pods", asleep("c"))
        later = await watch.until(lambda event: event.name == "c")
        assert int(later.version) > int(end.version)


async def _bookmarks(api: Api) -> list[Event]:
    """Return the events of a short watch of no pod, during which one is created.

    A real API server sends no bookmark with the version from which the watch has begun, so something has to change.
    """
    async with api.watch(
        resourceVersion=await _version(api), labelSelector="no=pod", allowWatchBookmarks="true", timeoutSeconds="4"
    ) as watch:
        await api.create("pods", asleep("before"))
        return await watch.rest()


async def test_a_bookmark_comes_shortly_before_the_end(api: Api) -> None:
    version = await _version(api)
    events = await _bookmarks(api)
    # The server may send its regular bookmark, too, if its minute ends in these seconds.
    assert [event.type for event in events] in (["BOOKMARK"], ["BOOKMARK"] * 2)
    assert int(events[-1].version) > int(version)
    assert set(events[-1].object["metadata"]) == {"resourceVersion"}


async def test_a_watch_resumes_from_the_version_of_a_bookmark(api: Api) -> None:
    bookmark = (await _bookmarks(api))[-1]
    await api.create("pods", asleep("after"))
    async with api.watch(resourceVersion=bookmark.version, timeoutSeconds="1") as watch:
        assert [event.name for event in await watch.rest() if event.type == "ADDED"] == ["after"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param(
            {"sendInitialEvents": "true", "allowWatchBookmarks": "true"},
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            id="initial events without a match",
        ),
        pytest.param(
            {"resourceVersion": "0", "resourceVersionMatch": "NotOlderThan"},
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            id="a match without initial events",
        ),
    ],
)
async def test_contradictory_watch_options_are_422(api: Api, query: dict[str, str], message: str) -> None:
    answer = await api.get("pods", watch="true", timeoutSeconds="1", **query)
    assert answer.status == 422
    assert answer.body["reason"] == "Invalid"
    assert message in answer.message


async def test_config_maps_can_be_watched(api: Api) -> None:
    async with api.watch("configmaps", fieldSelector="metadata.name=settings") as watch:
        await api.create("configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}})
        await api.merge("configmaps", "settings", {"data": {"a": "2"}})
        await api.delete("configmaps", "settings")
        await watch.until(lambda event: event.type == "DELETED")
    assert [event.type for event in watch.seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event.object["data"]["a"] for event in watch.seen] == ["1", "2", "2"]
