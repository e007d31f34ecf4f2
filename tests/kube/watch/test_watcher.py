"""The watcher against servers that fail as real ones do. Time is virtual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from itertools import pairwise

import pytest

from kpo_async.exceptions import ApiError, ForbiddenError, NotFoundError, ServerError, ThrottledError
from kpo_async.kube.watch import Apply, Delete, InitApply, InitDone, Watcher, WatchEvent
from kpo_async.kube.watch import watcher as watch
from kpo_async.kube.watch.watcher import State
from tests.kube.scripted_server import (
    Reply,
    ScriptedPods,
    added,
    bookmark,
    deleted,
    error,
    line,
    listing,
    marker,
    modified,
    pod,
    refuse,
    stream,
)

pytestmark = pytest.mark.virtual_time

NO_WATCH_LIST = refuse(422, "Invalid")
"""The reply of servers before 1.27 to `sendInitialEvents`."""
SYNCED = stream(added("a", 5), marker(10), 2.0, end="close")
"""A sync of one pod at version 10, and a clean end a little later."""


def text_of(event: WatchEvent) -> str:
    """`Apply a@7`."""
    match event:
        case InitApply(pod) | Apply(pod) | Delete(pod):
            return f"{type(event).__name__} {pod.metadata.name}@{pod.metadata.resource_version}"
        case InitDone(rewound=True):
            return "InitDone rewound"
    return type(event).__name__


class Problems:
    """Records the calls of `on_problem`."""

    def __init__(self) -> None:
        self.reported: list[ApiError | None] = []

    def __call__(self, problem: ApiError | None) -> None:
        self.reported.append(problem)

    @property
    def kinds(self) -> list[type[ApiError] | None]:
        return [problem and type(problem) for problem in self.reported]


async def watched(server: ScriptedPods, until: str, problems: Problems | None = None) -> list[str]:
    """The events of a watch of `server`, up to the event `until`."""
    async with server.connected() as client:
        return await events_of(Watcher(client, "ns", label_selector="our=own", on_problem=problems), until)


async def events_of(watcher: Watcher, until: str) -> list[str]:
    texts = []
    async with aclosing(watcher.events()) as events:
        async for event in events:
            texts.append(text_of(event))
            if texts[-1] == until:
                break
    return texts


def versions(server: ScriptedPods) -> list[str]:
    """One word per request: `watch-list`, `list 0`, `watch 10`."""

    def describe(query: dict[str, str]) -> str:
        if query.get("sendInitialEvents"):
            return "watch-list"
        return ("watch " if query.get("watch") else "list ") + query.get("resourceVersion", "unset")

    return [describe(query) for query in server.queries]


async def test_the_current_pods_and_their_changes_come_over_one_connection() -> None:
    server = ScriptedPods(
        stream(added("a", 5), added("b", 3), marker(10), modified("a", 11), added("c", 12), deleted("b", 13))
    )
    events = await watched(server, "Delete b@13")
    assert events == ["Init", "InitApply a@5", "InitApply b@3", "InitDone", "Apply a@11", "Apply c@12", "Delete b@13"]
    (query,) = server.queries
    assert query.pop("timeoutSeconds").isdecimal()
    assert query == {
        "watch": "true", "labelSelector": "our=own", "allowWatchBookmarks": "true",
        "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}  # fmt: skip


async def test_a_server_without_initial_events_is_listed_from_its_cache_and_then_watched() -> None:
    server = ScriptedPods(NO_WATCH_LIST, listing(10, pod("a", 5)), stream(modified("a", 11)))
    assert await watched(server, "Apply a@11") == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]
    assert versions(server) == ["watch-list", "list 0", "watch 10"]


async def test_a_refused_watch_list_is_not_requested_again_with_the_same_client() -> None:
    server = ScriptedPods(NO_WATCH_LIST, listing(10), stream(added("a", 11)), listing(20), stream(added("b", 21)))
    async with server.connected() as client:
        await events_of(Watcher(client, "ns"), "Apply a@11")
        await events_of(Watcher(client, "ns"), "Apply b@21")
    assert versions(server) == ["watch-list", "list 0", "watch 10", "list 0", "watch 20"]


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(stream(added("a", 5), bookmark(6)), id="a plain bookmark before the marker"),
        pytest.param(stream(added("a", 5)), id="no marker for 15 s"),
        pytest.param(stream(), id="silence for 15 s"),
    ],
)
async def test_a_server_that_ignores_initial_events_is_listed(beginning: Reply) -> None:
    server = ScriptedPods(beginning, listing(10, pod("a", 5)), stream(modified("a", 11)))
    events = await watched(server, "Apply a@11")
    assert events[-4:] == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]
    assert versions(server) == ["watch-list", "list 0", "watch 10"]
    assert server.times[-1] <= 16


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_a_sync_that_is_lost_before_its_marker_starts_over(end: str) -> None:
    server = ScriptedPods(stream(added("a", 5), end=end), stream(added("b", 6), marker(10)))
    assert await watched(server, "InitDone") == ["Init", "InitApply a@5", "Init", "InitApply b@6", "InitDone"]


async def test_a_clean_end_resumes_at_once_from_the_last_version_without_a_list() -> None:
    server = ScriptedPods(
        SYNCED,
        stream(modified("a", 17), end="close"),
        stream(bookmark(18), 60.0, bookmark(23), 60.0, end="close"),
        stream(modified("a", 24)),
    )
    assert (await watched(server, "Apply a@24"))[3:] == ["Apply a@17", "Apply a@24"]
    assert versions(server) == ["watch-list", "watch 10", "watch 17", "watch 23"]
    assert server.times == pytest.approx([0, 2, 2, 122])


async def test_a_cut_connection_resumes_from_the_last_version_within_the_first_backoff() -> None:
    server = ScriptedPods(SYNCED, stream(modified("a", 17), end="cut"), stream(modified("a", 18)))
    await watched(server, "Apply a@18")
    assert versions(server) == ["watch-list", "watch 10", "watch 17"]
    assert server.times[2] <= 2 + 0.8


async def test_no_watch_resumes_from_the_version_of_an_initial_event() -> None:
    server = ScriptedPods(stream(added("a", 900), marker(10), 2.0, end="close"), stream(modified("a", 901)))
    await watched(server, "Apply a@901")
    assert versions(server) == ["watch-list", "watch 10"]


@pytest.mark.parametrize(
    "expired",
    [
        pytest.param(stream(error(410, "Expired"), end="close"), id="as a line"),
        pytest.param(stream(error(410, "Gone"), end="close"), id="as a line of an older server"),
        pytest.param(refuse(410, "Expired"), id="as an HTTP status"),
    ],
)
async def test_an_expired_version_is_followed_by_a_relist_at_once(expired: Reply) -> None:
    server = ScriptedPods(SYNCED, stream(modified("a", 17), end="close"), expired, stream(added("b", 30), marker(40)))
    problems = Problems()
    events = await watched(server, "InitApply b@30", problems)
    assert events[-2:] == ["Init", "InitApply b@30"]
    assert versions(server) == ["watch-list", "watch 10", "watch 17", "watch-list"]
    assert server.times[3] == server.times[2]
    assert problems.reported == []


async def test_a_server_that_rejects_the_version_of_its_own_list_is_not_hammered() -> None:
    expired = stream(error(410, "Expired"), end="close")
    server = ScriptedPods(*[SYNCED, expired] * 10, SYNCED, stream(modified("a", 99)))
    await watched(server, "Apply a@99")
    syncs = server.times[::2]
    pauses = [later - earlier - 2 for earlier, later in pairwise(syncs)]
    assert sum(pauses) > 15


async def test_a_list_is_requested_not_older_than_the_last_version_and_then_most_recent() -> None:
    server = ScriptedPods(
        NO_WATCH_LIST,
        listing(10),
        stream(modified("a", 17), end="close"),
        refuse(410, "Expired"),
        refuse(504, "Timeout", Retry_After="1"),
        listing(30, pod("b", 25)),
        stream(modified("b", 31)),
    )
    await watched(server, "Apply b@31")
    assert versions(server) == ["watch-list", "list 0", "watch 10", "watch 17", "list 17", "list unset", "watch 30"]
    assert [query.get("limit") for query in server.queries if "watch" not in query] == [None, None, "500"]


async def test_a_first_list_that_the_cache_cannot_serve_goes_to_the_store() -> None:
    server = ScriptedPods(NO_WATCH_LIST, refuse(504, "Timeout"), listing(30), stream(added("a", 31)))
    await watched(server, "Apply a@31")
    assert versions(server) == ["watch-list", "list 0", "list unset", "watch 30"]


async def test_pages_are_one_sync_and_the_watch_begins_at_the_version_of_the_last_page() -> None:
    server = ScriptedPods(
        NO_WATCH_LIST,
        refuse(410, "Expired"),
        listing(30, pod("a", 1), token="more"),
        listing(30, pod("b", 2), token="still more"),
        listing(31, pod("c", 3)),
        stream(modified("a", 32)),
    )
    events = await watched(server, "Apply a@32")
    assert events == ["Init", "InitApply a@1", "InitApply b@2", "InitApply c@3", "InitDone", "Apply a@32"]
    assert [query.get("continue") for query in server.queries] == [None, None, None, "more", "still more", None]
    assert versions(server)[-1] == "watch 31"


async def test_after_an_expired_page_the_next_list_is_requested_whole() -> None:
    server = ScriptedPods(
        NO_WATCH_LIST,
        refuse(410, "Expired"),
        listing(30, pod("a", 1), token="more"),
        refuse(410, "Expired"),
        listing(40, pod("a", 1), pod("b", 2)),
        stream(modified("a", 41)),
    )
    events = await watched(server, "Apply a@41")
    assert events == ["Init", "InitApply a@1", "Init", "InitApply a@1", "InitApply b@2", "InitDone", "Apply a@41"]
    assert [query.get("limit") for query in server.queries] == [None, None, "500", "500", None, None]


async def test_retry_after_of_a_throttling_server_is_honoured() -> None:
    problems = Problems()
    server = ScriptedPods(SYNCED, refuse(429, "TooManyRequests", Retry_After="7"), stream(modified("a", 11)))
    await watched(server, "Apply a@11", problems)
    assert versions(server) == ["watch-list", "watch 10", "watch 10"]
    assert 7 <= server.times[2] - server.times[1] <= 7.8
    assert problems.kinds == [ThrottledError, None]


async def test_pauses_grow_to_twelve_seconds_and_no_further() -> None:
    server = ScriptedPods(*[refuse(503, "ServiceUnavailable")] * 40, stream(marker(10)))
    await watched(server, "InitDone")
    pauses = [later - earlier for earlier, later in pairwise(server.times)]
    ceilings = [min(12.0, 0.8 * 2**failures) for failures in range(40)]
    assert all(pause <= ceiling + 0.01 for pause, ceiling in zip(pauses, ceilings, strict=True))
    assert sum(pauses[8:]) / 32 == pytest.approx(6, abs=2.5)


async def test_after_two_healthy_minutes_a_failure_counts_as_the_first() -> None:
    long = stream(bookmark(11), 65.0, bookmark(12), 65.0, end="cut")
    cut = stream(bookmark(13), end="cut")
    server = ScriptedPods(*[refuse(503, "x")] * 8, SYNCED, long, cut, stream(added("b", 20)))
    await watched(server, "Apply b@20")
    assert server.times[-2] - server.times[-3] - 130 <= 0.81
    assert server.times[-1] - server.times[-2] <= 1.61


async def test_a_silent_connection_is_given_up_after_70_seconds_and_resumed() -> None:
    server = ScriptedPods(SYNCED, stream(modified("a", 17)), stream(modified("a", 18)))
    await watched(server, "Apply a@18")
    assert versions(server) == ["watch-list", "watch 10", "watch 17"]
    assert 70 <= server.times[2] - server.times[1] <= 70.9


async def test_bookmarks_keep_a_quiet_connection_alive() -> None:
    server = ScriptedPods(stream(marker(10), 69.0, bookmark(11), 69.0, bookmark(12), 69.0, added("a", 13)))
    assert await watched(server, "Apply a@13") == ["Init", "InitDone", "Apply a@13"]
    assert versions(server) == ["watch-list"]


async def test_a_watch_that_was_silent_from_the_start_is_not_resumed() -> None:
    server = ScriptedPods(SYNCED, stream(), stream(added("a", 3), marker(4)))
    events = await watched(server, "InitDone rewound")
    assert events[-3:] == ["Init", "InitApply a@3", "InitDone rewound"]
    assert versions(server) == ["watch-list", "watch 10", "watch-list"]


@pytest.mark.parametrize(
    ("code", "reason", "kind"), [(403, "Forbidden", ForbiddenError), (404, "NotFound", NotFoundError)]
)
async def test_a_refusal_is_reported_and_retried(code: int, reason: str, kind: type[ApiError]) -> None:
    problems = Problems()
    server = ScriptedPods(*[refuse(code, reason)] * 3, stream(marker(10)))
    await watched(server, "InitDone", problems)
    assert problems.kinds == [kind, kind, kind, None]
    assert problems.reported[0] is not None
    assert problems.reported[0].verb == "watch"
    assert problems.reported[0].namespace == "ns"


async def test_an_exception_of_on_problem_ends_the_watch() -> None:
    def stop(problem: ApiError | None) -> None:
        if problem:
            raise problem

    async with ScriptedPods(refuse(403, "Forbidden")).connected() as client:
        with pytest.raises(ForbiddenError):
            await events_of(Watcher(client, "ns", on_problem=stop), "never")


async def test_a_watch_that_ends_at_once_without_a_line_is_a_failure() -> None:
    server = ScriptedPods(SYNCED, *[stream(end="close")] * 12, stream(modified("a", 11)))
    await watched(server, "Apply a@11")
    assert set(versions(server)[1:]) == {"watch 10"}
    assert server.times[-1] > 15


async def test_a_line_cut_in_the_middle_is_requested_again() -> None:
    whole = modified("a", 12)
    server = ScriptedPods(SYNCED, stream(modified("a", 11), whole[:60], end="close"), stream(whole))
    assert (await watched(server, "Apply a@12"))[-2:] == ["Apply a@11", "Apply a@12"]
    assert versions(server)[-1] == "watch 11"


async def test_events_may_come_byte_by_byte() -> None:
    body = added("a", 5) + marker(10) + modified("a", 11)
    server = ScriptedPods(stream(*(body[at : at + 1] for at in range(len(body)))))
    assert await watched(server, "Apply a@11") == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]


async def test_many_events_may_come_in_one_piece() -> None:
    server = ScriptedPods(stream(marker(10) + b"".join(modified("a", 11 + step) for step in range(500))))
    events = await watched(server, "Apply a@510")
    assert events[2:] == [f"Apply a@{11 + step}" for step in range(500)]


async def test_the_largest_object_that_kubernetes_stores_comes_through() -> None:
    huge = modified("a", 11, annotations={"data": "x" * 1_500_000})
    server = ScriptedPods(stream(marker(10), huge))
    assert (await watched(server, "Apply a@11"))[-1] == "Apply a@11"


async def test_lists_may_be_compressed_and_watches_may_not() -> None:
    pods = [pod(f"p{number}", number) for number in range(2000)]
    server = ScriptedPods(NO_WATCH_LIST, listing(10, *pods, zipped=True), stream(modified("p0", 5000)))
    assert len(await watched(server, "Apply p0@5000")) == 2003
    encodings = [request.headers["Accept-Encoding"] for request in server.lists_and_watches]
    assert "gzip" in encodings[1]
    assert encodings[0] == encodings[2] == "identity"


async def test_a_version_that_leads_to_unexplained_500s_is_dropped() -> None:
    server = ScriptedPods(SYNCED, refuse(500), refuse(500), stream(added("a", 20), marker(30)))
    await watched(server, "InitApply a@20")
    assert versions(server) == ["watch-list", "watch 10", "watch 10", "watch-list"]


async def test_after_explained_server_errors_the_watch_resumes_where_it_was() -> None:
    problems = Problems()
    server = ScriptedPods(SYNCED, *[refuse(500, "InternalError")] * 5, stream(modified("a", 11)))
    await watched(server, "Apply a@11", problems)
    assert set(versions(server)[1:]) == {"watch 10"}
    assert problems.kinds == [ServerError] * 5 + [None]


async def test_an_error_in_the_stream_other_than_410_resumes_from_the_last_version() -> None:
    server = ScriptedPods(
        SYNCED, stream(modified("a", 11), error(500, "InternalError"), end="close"), stream(added("b", 12))
    )
    await watched(server, "Apply b@12")
    assert versions(server) == ["watch-list", "watch 10", "watch 11"]


async def test_an_older_version_in_the_stream_does_not_move_the_version_back() -> None:
    server = ScriptedPods(SYNCED, stream(modified("a", 20), modified("b", 15), end="close"), stream(added("c", 21)))
    await watched(server, "Apply c@21")
    assert versions(server)[-1] == "watch 20"


async def test_a_restored_store_is_reported_as_rewound() -> None:
    server = ScriptedPods(
        NO_WATCH_LIST, listing(100), stream(80.0, end="close"), refuse(504, "Timeout"), listing(40, pod("a", 39))
    )
    events = await watched(server, "InitDone rewound")
    assert events[-3:] == ["Init", "InitApply a@39", "InitDone rewound"]
    assert versions(server) == ["watch-list", "list 0", "watch 100", "list 100", "list unset"]


async def test_a_response_that_is_not_a_watch_is_reported_and_retried() -> None:
    problems = Problems()
    proxy = stream(b"<html>sign in</html>\n")
    server = ScriptedPods(proxy, proxy, SYNCED, proxy, stream(modified("a", 11)))
    assert (await watched(server, "Apply a@11", problems))[-1] == "Apply a@11"
    assert versions(server) == ["watch-list", "watch-list", "watch-list", "watch 10", "watch 10"]
    assert problems.kinds == [ApiError, ApiError, None]


async def test_a_pod_that_cannot_be_decoded_is_left_out() -> None:
    odd = line("MODIFIED", pod("odd", 11) | {"status": "what?"})
    server = ScriptedPods(SYNCED, stream(odd, modified("a", 12)))
    assert (await watched(server, "Apply a@12"))[3:] == ["Apply a@12"]


async def test_watches_end_at_random_times() -> None:
    server = ScriptedPods(SYNCED, *[stream(2.0, end="close")] * 20, stream(modified("a", 11)))
    await watched(server, "Apply a@11")
    asked = {int(query["timeoutSeconds"]) for query in server.queries}
    assert len(asked) > 10
    assert asked <= set(range(300, 601))


async def test_closing_the_stream_closes_its_connection() -> None:
    server = ScriptedPods(stream(marker(10)))
    async with server.connected() as client:
        watcher = Watcher(client, "ns")
        await events_of(watcher, "InitDone")
        assert watcher.state is State.WATCH


@pytest.fixture(autouse=True)
def forget_clients() -> Iterator[None]:
    yield
    watch._no_watch_list.clear()
