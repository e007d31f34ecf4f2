"""What subscribers of the shared watch may rely on. Time is virtual."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from kpo_async.exceptions import ForbiddenError, NotFoundError, ThrottledError
from kpo_async.kube.client import Client
from kpo_async.kube.watch import Presence, Subscription, View, follow, informer
from tests.kube.scripted_server import (
    ScriptedPods,
    added,
    deleted,
    error,
    listing,
    marker,
    modified,
    ok,
    pod,
    refuse,
    stream,
)

pytestmark = pytest.mark.virtual_time

WHEN = "2026-11-21T09:00:00Z"
FORBIDDEN = refuse(403, "Forbidden")


def describe(view: View) -> str:
    """`PRESENT Running@5`."""
    state = f" {view.pod.status.phase}@{view.pod.metadata.resource_version}" if view.pod else ""
    problem = f" {type(view.problem).__name__}" if view.problem else ""
    return view.presence.name + state + problem


async def views_of(subscription: Subscription, until: str = "") -> list[str]:
    """Every view up to the final one, or up to `until`."""
    views = []
    while True:
        view = await subscription.next()
        views.append(describe(view))
        if view.presence.final or views[-1] == until:
            return views


def subscribed(client: Client, name: str = "a", uid: str = "", **options: Any) -> Any:
    return follow(client, "ns", name, uid or f"uid-{name}", selector="our=own", **options)


@asynccontextmanager
async def one_subscriber(server: ScriptedPods) -> AsyncIterator[Subscription]:
    async with server.connected() as client, subscribed(client) as subscription:
        yield subscription


def ended(version: int, name: str = "a", **extra: Any) -> bytes:
    """The line of a real deletion."""
    return deleted(name, version, phase="Succeeded", deletionTimestamp=WHEN, **extra)


async def test_a_subscriber_sees_its_pod_change_and_end() -> None:
    server = ScriptedPods(
        stream(added("a", 5, phase="Pending"), marker(9), 1.0, modified("a", 10), 1.0, ended(12), added("b", 13))
    )
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Pending@5", "PRESENT Running@10", "GONE Succeeded@12"]
        assert subscription.view.presence is Presence.GONE
    assert server.gets == []


async def test_a_thousand_subscribers_cost_one_request() -> None:
    names = [f"p{number}" for number in range(1000)]
    server = ScriptedPods(
        stream(*(added(name, 5) for name in names), marker(9), 1.0, *(ended(20, name) for name in names))
    )
    async with server.connected() as client, AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(subscribed(client, name)) for name in names]
        outcomes = await asyncio.gather(*(views_of(subscription) for subscription in subscriptions))
    assert outcomes == [["PRESENT Running@5", "GONE Succeeded@20"]] * 1000
    assert len(server.queries) == 1
    assert server.gets == []


async def test_a_late_subscriber_gets_what_is_known() -> None:
    server = ScriptedPods(stream(added("a", 5), added("b", 6), marker(9)))
    async with server.connected() as client, subscribed(client, "a") as first:
        await first.next()
        async with subscribed(client, "b") as second:
            assert describe(second.view) == "PRESENT Running@6"
            assert describe(await second.next()) == "PRESENT Running@6"
    assert len(server.queries) == 1


async def test_a_slow_subscriber_misses_states_but_not_the_last_one() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), *(modified("a", 10 + n) for n in range(50)), ended(70)))
    async with one_subscriber(server) as subscription:
        await subscription.next()
        await asyncio.sleep(10)
        assert await views_of(subscription) == ["GONE Succeeded@70"]


async def test_nothing_is_known_before_the_first_sync_is_complete() -> None:
    server = ScriptedPods(stream(added("a", 5), 5.0, marker(9)))
    async with one_subscriber(server) as subscription:
        await asyncio.sleep(4)
        assert subscription.view == View(Presence.UNKNOWN)
        assert describe(await subscription.next()) == "PRESENT Running@5"


async def test_an_older_state_is_never_shown_after_a_newer_one() -> None:
    server = ScriptedPods(
        refuse(422, "Invalid"),
        listing(9, pod("a", 5)),
        stream(modified("a", 20), modified("a", 15), modified("a", 20), error(410, "Expired"), end="close"),
        listing(19, pod("a", 15)),
        stream(modified("a", 21)),
    )
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription, "PRESENT Running@21")
    assert views in (
        ["PRESENT Running@5", "PRESENT Running@20", "PRESENT Running@21"],
        ["PRESENT Running@20", "PRESENT Running@21"],
    )


async def test_a_restored_store_is_believed_although_its_versions_are_older() -> None:
    server = ScriptedPods(
        stream(added("a", 50), marker(90), 1.0, error(410, "Expired"), end="close"),
        stream(added("a", 5), marker(9)),
    )
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription, "PRESENT Running@5") == ["PRESENT Running@50", "PRESENT Running@5"]


EXPIRED_LATER = stream(added("a", 5), marker(9), 1.0, error(410, "Expired"), end="close")


async def test_a_pod_missing_from_a_new_sync_is_gone_after_one_get() -> None:
    server = ScriptedPods(EXPIRED_LATER, stream(marker(30)))
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Running@5", "FINAL_STATE_UNKNOWN Running@5"]
    assert server.gets == ["a"]


async def test_a_pod_that_left_the_selection_between_two_watches_is_watched_singly() -> None:
    server = ScriptedPods(EXPIRED_LATER, stream(marker(30)))
    server.pods["a"] = ok(pod("a", 20))
    server.single_watches["a"] = [stream(added("a", 20), marker(30), modified("a", 31), ended(32))]
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription)
    assert views[:2] == ["PRESENT Running@5", "PRESENT Running@20"]
    assert views[-1] == "GONE Succeeded@32"
    assert server.gets == ["a"]


async def test_a_pod_that_lost_its_label_is_watched_singly_to_its_end() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), 1.0, deleted("a", 10)))
    server.pods["a"] = ok(pod("a", 10))
    server.single_watches["a"] = [stream(added("a", 10), marker(12), 1.0, ended(13))]
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Running@5", "PRESENT Running@10", "GONE Succeeded@13"]
    assert server.queries[1]["fieldSelector"] == "metadata.name=a"


async def test_a_pod_that_gets_its_label_back_returns_to_the_shared_watch() -> None:
    back = [10.0, added("a", 15), ended(16)]
    server = ScriptedPods(stream(added("a", 5), marker(9), 1.0, deleted("a", 10), *back))
    server.pods["a"] = ok(pod("a", 10))
    server.single_watches["a"] = [stream(added("a", 10), marker(12))]
    async with one_subscriber(server) as subscription:
        assert (await views_of(subscription))[-1] == "GONE Succeeded@16"
        await asyncio.sleep(1)
        assert server.open == 1


async def test_a_deletion_without_its_time_is_confirmed() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), 1.0, deleted("a", 10)))
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Running@5", "FINAL_STATE_UNKNOWN Running@5"]
    assert server.gets == ["a"]


async def test_another_pod_of_the_same_name_is_another_pod() -> None:
    server = ScriptedPods(
        stream(added("a", 5), marker(9), 1.0, ended(10), added("a", 11, uid="second"), modified("a", 12, uid="second"))
    )
    async with server.connected() as client, subscribed(client) as first, subscribed(client, uid="second") as second:
        assert await views_of(first) == ["PRESENT Running@5", "GONE Succeeded@10"]
        assert (await views_of(second, "PRESENT Running@12"))[-1] == "PRESENT Running@12"


async def test_a_pod_replaced_under_its_name_between_two_watches_is_gone() -> None:
    server = ScriptedPods(EXPIRED_LATER, stream(added("a", 20, uid="second"), marker(30)))
    server.pods["a"] = ok(pod("a", 20, uid="second"))
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Running@5", "FINAL_STATE_UNKNOWN Running@5"]


async def test_a_pod_too_new_for_a_cached_list_is_not_looked_up() -> None:
    server = ScriptedPods(refuse(422, "Invalid"), listing(9), stream(0.5, added("a", 10), ended(11)))
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription)
    assert views[-1] == "GONE Succeeded@11"
    assert server.gets == []


async def test_a_pod_that_the_watch_is_late_to_show_is_looked_up() -> None:
    server = ScriptedPods(stream(marker(9), 1.5, added("a", 10), 5.0, ended(11)))
    server.pods["a"] = ok(pod("a", 10, phase="Pending"))
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["PRESENT Pending@10", "GONE Succeeded@11"]
    assert (len(server.queries), server.gets) == (1, ["a"])


async def test_a_pod_that_never_existed_is_gone() -> None:
    server = ScriptedPods(stream(marker(9)))
    async with one_subscriber(server) as subscription:
        assert await views_of(subscription) == ["FINAL_STATE_UNKNOWN"]


async def test_the_final_state_of_a_deleted_pod_is_kept_for_late_subscribers() -> None:
    server = ScriptedPods(stream(added("a", 5), added("b", 6), marker(9), ended(10)))
    async with server.connected() as client, subscribed(client, "b"):
        await asyncio.sleep(1)
        async with subscribed(client, "a") as late:
            assert await views_of(late) == ["GONE Succeeded@10"]
    assert server.gets == []


async def test_many_missing_pods_are_looked_up_a_few_at_a_time() -> None:
    names = [f"p{number}" for number in range(60)]
    first = stream(*(added(name, 5) for name in names), marker(9), 1.0, error(410, "Expired"), end="close")
    server = ScriptedPods(first, stream(marker(30)))
    async with server.connected() as client, AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(subscribed(client, name)) for name in names]
        outcomes = await asyncio.gather(*(views_of(subscription) for subscription in subscriptions))
    assert all(views[-1] == "FINAL_STATE_UNKNOWN Running@5" for views in outcomes)
    assert sorted(server.gets) == sorted(names)
    assert max(sum(at <= other < at + 1 for other in server.get_times) for at in server.get_times) <= 20


async def test_a_get_that_fails_proves_nothing_and_is_repeated() -> None:
    server = ScriptedPods(EXPIRED_LATER, stream(marker(30)))
    answers = [*[refuse(503, "ServiceUnavailable")] * 9, refuse(404, "NotFound")]

    async def failing(request: Any) -> Any:
        return await answers.pop(0)(request)

    server.pods["a"] = failing
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription)
    assert views[0] == "PRESENT Running@5"
    assert views[-1] == "FINAL_STATE_UNKNOWN Running@5"
    assert answers == []


async def test_a_problem_of_the_watch_is_reported_and_taken_back() -> None:
    refused = refuse(429, "TooManyRequests", Retry_After="5")
    server = ScriptedPods(
        stream(added("a", 5), marker(9), 1.0, end="close"), refused, refused, stream(10.0, modified("a", 10))
    )
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription, "PRESENT Running@10")
    assert views == [
        "PRESENT Running@5", "PRESENT Running@5 ThrottledError", "PRESENT Running@5", "PRESENT Running@10"
    ]  # fmt: skip
    assert ThrottledError.__name__ in views[1]


async def test_a_missing_namespace_is_reported_before_anything_is_known() -> None:
    async with one_subscriber(ScriptedPods(*[refuse(404, "NotFound")] * 3)) as subscription:
        view = await subscription.next()
    assert view.presence is Presence.UNKNOWN
    assert isinstance(view.problem, NotFoundError)


async def test_a_forbidden_watch_is_replaced_by_one_per_pod_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedPods(*[FORBIDDEN] * 500)
    names = ["a", "b", "c"]
    for name in names:
        server.single_watches[name] = [stream(added(name, 5), marker(9), 1.0, ended(10, name))]
    async with server.connected() as client, AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(subscribed(client, name)) for name in names]
        for views in await asyncio.gather(*(views_of(subscription) for subscription in subscriptions)):
            assert views[-2:] == ["PRESENT Running@5", "GONE Succeeded@10"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    for part in ("watch pods", '"ns"', "watched by its own name", "may be listed and watched"):
        assert part in record.getMessage()


async def test_where_no_watch_is_allowed_pods_are_read_at_the_poll_interval(caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedPods(*[FORBIDDEN] * 500)
    server.single_watches["a"] = [FORBIDDEN] * 500
    answers = [*[ok(pod("a", 5))] * 9, refuse(404, "NotFound")]

    async def dying(request: Any) -> Any:
        return await answers.pop(0)(request)

    server.pods["a"] = dying
    async with server.connected() as client, subscribed(client, poll_interval=3.0) as subscription:
        views = await views_of(subscription)
    assert views[-2:] == ["PRESENT Running@5", "FINAL_STATE_UNKNOWN Running@5"]
    assert server.get_times[-1] - server.get_times[0] == pytest.approx(27, abs=2)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "read every poll_interval" in record.getMessage()


async def test_when_the_rights_are_granted_all_pods_share_one_watch_again() -> None:
    server = ScriptedPods(*[FORBIDDEN] * 3, stream(added("a", 5), marker(9), 60.0, ended(20)))
    server.single_watches["a"] = [stream(added("a", 5), marker(6))]
    async with one_subscriber(server) as subscription:
        await subscription.next()
        await asyncio.sleep(30)
        assert server.open == 1
        assert (await views_of(subscription))[-1] == "GONE Succeeded@20"


async def test_a_brief_refusal_of_an_established_watch_opens_no_single_watches() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), 1.0, end="close"), *[FORBIDDEN] * 4, stream(ended(10)))
    async with one_subscriber(server) as subscription:
        views = await views_of(subscription)
    assert views[-1] == "GONE Succeeded@10"
    assert f"PRESENT Running@5 {ForbiddenError.__name__}" in views
    assert not any("fieldSelector" in query for query in server.queries)


async def test_two_subscribers_of_one_pod_leave_independently() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), 5.0, ended(10)))
    async with server.connected() as client, subscribed(client) as stays:
        async with subscribed(client) as leaves:
            assert describe(await leaves.next()) == describe(await stays.next()) == "PRESENT Running@5"
        assert await views_of(stays) == ["GONE Succeeded@10"]


async def test_two_callers_cannot_wait_on_one_subscription() -> None:
    async with one_subscriber(ScriptedPods(stream())) as subscription:
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(1)
        with pytest.raises(RuntimeError, match="subscribe twice"):
            await subscription.next()
        waiting.cancel()


async def test_the_watch_outlives_its_last_subscriber_for_a_while() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9), 4.0, modified("a", 10)))
    async with server.connected() as client:
        async with subscribed(client) as subscription:
            await subscription.next()
        await asyncio.sleep(4.5)
        async with subscribed(client) as subscription:
            assert describe(subscription.view) == "PRESENT Running@10"
        await asyncio.sleep(6)
        assert server.open == 0
    assert len(server.queries) == 1


async def test_a_closed_client_ends_its_informers_and_fails_their_subscribers() -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9)))
    async with server.connected() as client, subscribed(client) as subscription:
        await subscription.next()
        waiting = asyncio.ensure_future(subscription.next())
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(RuntimeError, match="informer ended"):
            await waiting
        with pytest.raises(RuntimeError, match="informer ended"):
            await subscription.next()


async def test_the_informer_does_not_log_in_the_context_of_its_first_subscriber(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context_of = contextvars.ContextVar("context_of", default="no subscriber")
    contexts = []

    class Recorder(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            contexts.append(context_of.get())
            return True

    informer.log.addFilter(recorder := Recorder())
    context_of.set("the first subscriber")
    server = ScriptedPods(*[FORBIDDEN] * 9)
    server.single_watches["a"] = [stream(added("a", 5), marker(9), ended(10))]
    async with one_subscriber(server) as subscription:
        await views_of(subscription)
    informer.log.removeFilter(recorder)
    assert contexts == ["no subscriber"]


class ClumsyClient(Client):
    """Raises an unexpected error, once."""

    broken = False

    def watch(self, *args: Any, **kwargs: Any) -> Any:
        if not self.broken:
            self.broken = True
            raise LookupError("an unexpected error")
        return super().watch(*args, **kwargs)


async def test_an_unexpected_error_is_logged_and_the_watch_started_again(caplog: pytest.LogCaptureFixture) -> None:
    server = ScriptedPods(stream(added("a", 5), marker(9)))
    async with server.connected() as client, ClumsyClient(client.config) as clumsy, subscribed(clumsy) as subscription:
        assert describe(await subscription.next()) == "PRESENT Running@5"
    assert "an unexpected error" in caplog.text


async def test_each_namespace_and_selector_has_its_own_watch() -> None:
    server = ScriptedPods(*[stream(added("a", 5), marker(9))] * 3)
    async with server.connected() as client, AsyncExitStack() as stack:
        for namespace, selector in [("ns", "x=1"), ("other", "x=1"), ("ns", "x=2"), ("ns", "x=1")]:
            subscription = await stack.enter_async_context(follow(client, namespace, "a", "uid-a", selector=selector))
            await subscription.next()
    assert len(server.queries) == 3


@pytest.fixture(autouse=True)
def forget_warnings() -> None:
    informer._warned.clear()
