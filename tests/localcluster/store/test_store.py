"""The store: versions, history, watches."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.localcluster.store.objects import Object, WatchEventType
from kpo_async.localcluster.store.store import (
    BACKLOG_LIMIT,
    HISTORY_LIMIT,
    ObjectExists,
    ObjectNotFound,
    Store,
    StoreWatch,
    VersionExpired,
    WatchFilter,
)


def _object(name: str, namespace: str = "ns", **more: object) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, **more}


@pytest.fixture
def store() -> Store:
    return Store(clock=lambda: 0)


def test_a_stored_object_gets_a_uid_a_time_and_a_version(store: Store) -> None:
    metadata = store.create("things", _object("a"))["metadata"]
    assert metadata["creationTimestamp"] == "1970-01-01T00:00:00Z"
    assert metadata["uid"]
    assert metadata["resourceVersion"] == str(store.version)


def test_each_write_has_its_own_version_across_all_resources(store: Store) -> None:
    versions = [
        store.create("things", _object("a"))["metadata"]["resourceVersion"],
        store.create("others", _object("a"))["metadata"]["resourceVersion"],
        store.update("things", _object("a", colour="red"))["metadata"]["resourceVersion"],
        store.remove("things", "ns", "a")["metadata"]["resourceVersion"],
    ]
    assert versions == [str(version) for version in range(2, 6)]


def test_errors_name_the_object(store: Store) -> None:
    store.create("things", _object("a"))
    with pytest.raises(ObjectExists, match='things "a" already exists'):
        store.create("things", _object("a"))
    with pytest.raises(ObjectNotFound, match='things "b" not found'):
        store.get("things", "ns", "b")


def test_an_equal_object_is_not_written(store: Store) -> None:
    created = store.create("things", _object("a", colour="red"))
    assert store.update("things", created) is created


def test_later_writes_do_not_change_a_returned_object(store: Store) -> None:
    first = store.create("things", _object("a", colour="red"))
    store.update("things", {**first, "colour": "blue"})
    assert first["colour"] == "red"


async def test_a_watch_gets_only_the_events_of_its_filter(store: Store) -> None:
    everything = store.watch("things")
    one_namespace = store.watch("things", watch_filter=WatchFilter("ns"))
    one_object = store.watch("things", watch_filter=WatchFilter("ns", "a"))
    one_name = store.watch("things", watch_filter=WatchFilter(None, "a"))
    for name, namespace in (("a", "ns"), ("b", "ns"), ("a", "other")):
        store.create("things", _object(name, namespace))

    async def received(watch: StoreWatch) -> list[str]:
        changes = await watch.batch()
        return [f"{change.object['metadata']['namespace']}/{change.object['metadata']['name']}" for change in changes]

    assert await received(everything) == ["ns/a", "ns/b", "other/a"]
    assert await received(one_namespace) == ["ns/a", "ns/b"]
    assert await received(one_object) == ["ns/a"]
    assert await received(one_name) == ["ns/a", "other/a"]


async def test_a_watch_from_a_version_starts_with_the_later_events(store: Store) -> None:
    version = int(store.create("things", _object("a"))["metadata"]["resourceVersion"])
    store.update("things", _object("a", colour="red"))
    store.remove("things", "ns", "a")
    changes = await store.watch("things", version).batch()
    assert [change.type for change in changes] == [WatchEventType.MODIFIED, WatchEventType.DELETED]
    assert [change.previous is not None for change in changes] == [True, True]


def test_a_version_before_a_compaction_is_expired(store: Store) -> None:
    version = int(store.create("things", _object("a"))["metadata"]["resourceVersion"])
    store.update("things", _object("a", colour="red"))
    store.compact()
    with pytest.raises(VersionExpired, match=rf"too old resource version: {version} \({store.version}\)"):
        store.watch("things", version)
    store.watch("things", store.version).close()
    with pytest.raises(VersionExpired):
        store.watch("never seen before", version)


def test_the_oldest_history_is_discarded(store: Store) -> None:
    first = int(store.create("things", _object("a"))["metadata"]["resourceVersion"])
    for number in range(HISTORY_LIMIT + 1):
        store.update("things", _object("a", number=number))
    with pytest.raises(VersionExpired):
        store.watch("things", first)
    assert len(store.history("things", store.version - 100)) == 100


async def test_a_compaction_does_not_affect_open_watches(store: Store) -> None:
    subscription = store.watch("things")
    store.create("things", _object("a"))
    store.compact()
    assert len(await subscription.batch()) == 1


async def test_a_watch_that_lags_too_far_behind_is_closed(store: Store) -> None:
    slow = store.watch("things")
    store.create("things", _object("a"))
    for number in range(BACKLOG_LIMIT):
        store.update("things", _object("a", number=number))
    assert slow.closed
    assert len(await slow.batch()) == BACKLOG_LIMIT
    assert await slow.batch() == []


async def test_iteration_waits_for_events_and_ends_with_the_watch(store: Store) -> None:
    subscription = store.watch("things")
    seen: list[str] = []

    async def read() -> None:
        async for change in subscription:
            seen.append(change.object["metadata"]["name"])

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    store.create("things", _object("a"))
    store.create("things", _object("b"))
    subscription.close()
    await reader
    assert seen == ["a", "b"]


def test_an_event_is_encoded_once_for_all_watches(store: Store) -> None:
    first, second = store.watch("things"), store.watch("things")
    store.create("things", _object("a"))
    [change] = store.history("things", 0)
    assert change.frame(WatchEventType.ADDED) is change.frame(WatchEventType.ADDED)
    first.close()
    second.close()
