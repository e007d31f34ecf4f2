"""Faults affect the requests that they select, and none after their end."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from kpo_async.compat import timeout
from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Api, asleep


async def test_a_throttled_request_is_429_with_retry_after_until_the_fault_ends(
    cluster: LocalCluster, api: Api
) -> None:
    with cluster.faults.throttle(retry_after=3) as fault:
        answer = await api.get("pods")
        assert answer.status == 429
        assert answer.headers["Retry-After"] == "3"
        assert answer.body["reason"] == "TooManyRequests"
        assert answer.body["details"]["retryAfterSeconds"] == 3
    assert fault.hits == 1
    assert (await api.get("pods")).status == 200


async def test_a_fault_affects_only_the_selected_requests(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.fail(503, verb="list", resource="pods"):
        assert (await api.get("pods")).status == 503
        assert (await api.get("configmaps")).status == 200
        assert (await api.create("pods", asleep("fine"))).status == 201
        assert (await api.get("pods", "fine")).status == 200


async def test_a_fault_strikes_at_most_as_often_as_it_may(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.fail(500, times=2) as fault:
        assert [(await api.get("pods")).status for _ in range(4)] == [500, 500, 200, 200]
    assert fault.hits == 2


@pytest.mark.parametrize("code", [500, 502, 503, 504])
async def test_a_failing_server_responds_with_a_status(cluster: LocalCluster, api: Api, code: int) -> None:
    with cluster.faults.fail(code):
        answer = await api.get("pods")
    assert (answer.status, answer.body["kind"], answer.body["code"]) == (code, "Status", code)


async def test_rights_and_credentials_can_be_missing(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.forbid(verb="watch list"):
        refused = await api.get("pods")
    assert refused.status == 403
    assert 'cannot list resource "pods" in API group "" in the namespace "default"' in refused.message
    with cluster.faults.unauthorize():
        assert (await api.get("pods")).status == 401


async def test_an_expired_list_is_410_by_status_and_a_watch_in_its_stream(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.expire(verb="list"):
        answer = await api.get("pods", resourceVersion="5")
        assert (answer.status, answer.body["reason"]) == (410, "Expired")
    cluster.store.create("configmaps", {"metadata": {"name": "x", "namespace": "default"}})
    async with api.watch("configmaps", resourceVersion=str(cluster.store.version)) as watch:
        cluster.faults.expire_watches()
        [event] = await watch.rest()
    assert (event.type, event.object["code"]) == ("ERROR", 410)


async def test_open_watches_survive_a_compaction_and_earlier_versions_do_not(cluster: LocalCluster, api: Api) -> None:
    version = str(cluster.store.version)
    async with api.watch(resourceVersion=version) as old:
        await api.create("pods", asleep("one"))
        await old.until(lambda event: event.name == "one")
        cluster.faults.compact()
        await api.create("pods", asleep("two"))
        await old.until(lambda event: event.name == "two")
    async with api.watch(resourceVersion=version) as late:
        [event] = await late.rest()
    assert event.object["reason"] == "Expired"


async def test_a_refusing_server_resets_connections_and_returns_on_its_port(cluster: LocalCluster, api: Api) -> None:
    url = cluster.url
    async with api.watch() as watch, cluster.faults.refuse():
        with pytest.raises(aiohttp.ClientError):
            await watch.rest()
        with pytest.raises(aiohttp.ClientConnectorError):
            await api.get("pods")
    assert cluster.url == url
    assert (await api.get("pods")).status == 200


@pytest.mark.parametrize("keep_history", [True, False])
async def test_a_restart_ends_watches_and_may_discard_history(
    cluster: LocalCluster, api: Api, keep_history: bool
) -> None:
    version = str(cluster.store.version)
    async with api.watch(resourceVersion=version) as watch:
        await api.create("pods", asleep("one"))
        await watch.until(lambda event: event.name == "one")
        await cluster.restart(keep_history=keep_history)
    async with api.watch(resourceVersion=version, timeoutSeconds="1") as again:
        first = await again.next()
    assert first is not None
    assert first.type == ("ADDED" if keep_history else "ERROR")


async def test_a_half_open_connection_sends_nothing_and_then_continues(cluster: LocalCluster, api: Api) -> None:
    async with api.watch() as watch:
        with cluster.faults.half_open() as fault:
            pending = asyncio.ensure_future(api.get("pods"))
            cluster.store.create("pods", {**asleep("hidden"), "metadata": {"name": "hidden", "namespace": "default"}})
            with pytest.raises(asyncio.TimeoutError):
                await watch.next(0.1)
            assert not pending.done()
            assert fault.hits == 2
        assert (await pending).status == 200
        assert await watch.until(lambda event: event.name == "hidden")


async def test_a_half_open_connection_may_end_with_a_reset(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.half_open(reset=True) as fault:
        # Not a GET: aiohttp repeats it when the connection is lost.
        pending = asyncio.ensure_future(api.create("pods", asleep("unheard")))
        async with timeout(5):
            await fault.struck()
    with pytest.raises(aiohttp.ClientError):
        await pending


async def test_a_reset_request_gets_no_response(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.reset(verb="create"):
        with pytest.raises(aiohttp.ClientError):
            await api.create("pods", asleep("maybe"))
        assert (await api.get("pods", "maybe")).status == 404


async def test_a_cut_sends_half_a_line(cluster: LocalCluster, api: Api) -> None:
    async with api.watch() as watch:
        with cluster.faults.cut(verb="watch", times=1):
            await api.create("pods", asleep("halved"))
            with pytest.raises((aiohttp.ClientError, json.JSONDecodeError)):
                await watch.next()


async def test_a_delayed_list_is_slow_and_correct(cluster: LocalCluster, api: Api) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with cluster.faults.delay(0.2, verb="list"):
        assert (await api.get("pods")).status == 200
    assert loop.time() - begin >= 0.2


async def test_a_stream_of_single_bytes_has_whole_events(cluster: LocalCluster, api: Api) -> None:
    async with api.watch() as watch:
        with cluster.faults.fragment(1, verb="watch"):
            await api.create("pods", asleep("tiny"))
            assert (await watch.until(lambda event: event.name == "tiny")).type == "ADDED"


async def test_events_can_be_lost_and_sent_twice(cluster: LocalCluster, api: Api) -> None:
    async with api.watch("configmaps") as watch:
        await watch.until(lambda event: event.name == "kube-root-ca.crt")
        with cluster.faults.drop(times=1):
            await api.create("configmaps", {"metadata": {"name": "lost"}})
            await api.create("configmaps", {"metadata": {"name": "kept"}})
            assert await watch.until(lambda event: event.name == "kept")
        with cluster.faults.duplicate(times=1):
            await api.create("configmaps", {"metadata": {"name": "twice"}})
            await api.create("configmaps", {"metadata": {"name": "once"}})
            await watch.until(lambda event: event.name == "once")
    names = [event.name for event in watch.seen]
    assert names == ["kube-root-ca.crt", "kept", "twice", "twice", "once"]


async def test_a_stale_cache_misses_new_objects(cluster: LocalCluster, api: Api) -> None:
    await api.create("pods", asleep("old"))
    with cluster.faults.lag(verb="list"):
        await api.create("pods", asleep("new"))
        cached = (await api.get("pods", resourceVersion="0")).body
        true = (await api.get("pods")).body
    assert [item["metadata"]["name"] for item in cached["items"]] == ["old"]
    assert {item["metadata"]["name"] for item in true["items"]} == {"old", "new"}
    assert int(cached["metadata"]["resourceVersion"]) < int(true["metadata"]["resourceVersion"])


async def test_versions_can_be_lowered(cluster: LocalCluster, api: Api) -> None:
    await api.create("pods", asleep("restored"))
    before = int((await api.get("pods")).body["metadata"]["resourceVersion"])
    cluster.faults.rewind(3)
    after = (await api.get("pods")).body
    assert int(after["metadata"]["resourceVersion"]) < before
    assert [item["metadata"]["name"] for item in after["items"]] == ["restored"]
    async with api.watch(resourceVersion=after["metadata"]["resourceVersion"], timeoutSeconds="1") as watch:
        await api.create("pods", asleep("later"))
        assert [event.name for event in await watch.rest()] == ["later"]


async def test_faults_can_be_combined(cluster: LocalCluster, api: Api) -> None:
    with cluster.faults.delay(0.05), cluster.faults.fail(500, times=1), cluster.faults.forbid():
        assert (await api.get("pods")).status == 500
        assert (await api.get("pods")).status == 403
