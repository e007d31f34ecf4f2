"""The watch against servers that behave as real ones do on bad days. Time is virtual."""

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

NO_STREAM = refuse(422, "Invalid")
"""How servers before 1.27 answer `sendInitialEvents`."""
TOLD = stream(added("a", 5), marker(10), 2.0, end="close")
"""One pod as of version 10, and a clean end a little later."""


def word(event: WatchEvent) -> str:
    """`Apply a@7`."""
    match event:
        case InitApply(pod) | Apply(pod) | Delete(pod):
            return f"{type(event).__name__} {pod.metadata.name}@{pod.metadata.resource_version}"
        case InitDone(rewound=True):
            return "InitDone rewound"
    return type(event).__name__


class Ear:
    """Hears the problems of a watch."""

    def __init__(self) -> None:
        self.heard: list[ApiError | None] = []

    def __call__(self, problem: ApiError | None) -> None:
        self.heard.append(problem)

    @property
    def kinds(self) -> list[type[ApiError] | None]:
        return [problem and type(problem) for problem in self.heard]


async def hear(server: ScriptedPods, until: str, ear: Ear | None = None) -> list[str]:
    """What a watch of `server` says, up to the event `until`."""
    async with server.connected() as client:
        return await hear_from(Watcher(client, "ns", label_selector="our=own", on_problem=ear), until)


async def hear_from(watcher: Watcher, until: str) -> list[str]:
    words = []
    async with aclosing(watcher.events()) as events:
        async for event in events:
            words.append(word(event))
            if words[-1] == until:
                break
    return words


def versions(server: ScriptedPods) -> list[str]:
    """What was asked for, one word per request: `stream`, `list 0`, `watch 10`."""

    def asked(query: dict[str, str]) -> str:
        if query.get("sendInitialEvents"):
            return "stream"
        return ("watch " if query.get("watch") else "list ") + query.get("resourceVersion", "unset")

    return [asked(query) for query in server.queries]


async def test_the_present_and_its_changes_come_over_one_connection() -> None:
    server = ScriptedPods(
        stream(added("a", 5), added("b", 3), marker(10), modified("a", 11), added("c", 12), deleted("b", 13))
    )
    words = await hear(server, "Delete b@13")
    assert words == ["Init", "InitApply a@5", "InitApply b@3", "InitDone", "Apply a@11", "Apply c@12", "Delete b@13"]
    (query,) = server.queries
    assert query.pop("timeoutSeconds").isdecimal()
    assert query == {
        "watch": "true", "labelSelector": "our=own", "allowWatchBookmarks": "true",
        "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}  # fmt: skip


async def test_a_server_without_initial_events_is_listed_from_its_cache_and_then_watched() -> None:
    server = ScriptedPods(NO_STREAM, listing(10, pod("a", 5)), stream(modified("a", 11)))
    assert await hear(server, "Apply a@11") == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]
    assert versions(server) == ["stream", "list 0", "watch 10"]


async def test_a_refused_initial_stream_is_not_asked_for_again_with_the_same_client() -> None:
    server = ScriptedPods(NO_STREAM, listing(10), stream(added("a", 11)), listing(20), stream(added("b", 21)))
    async with server.connected() as client:
        await hear_from(Watcher(client, "ns"), "Apply a@11")
        await hear_from(Watcher(client, "ns"), "Apply b@21")
    assert versions(server) == ["stream", "list 0", "watch 10", "list 0", "watch 20"]


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(stream(added("a", 5), bookmark(6)), id="a plain bookmark before the marker"),
        pytest.param(stream(added("a", 5)), id="no marker for 15 s"),
        pytest.param(stream(), id="silence for 15 s"),
    ],
)
async def test_a_server_that_overlooks_initial_events_is_listed(beginning: Reply) -> None:
    server = ScriptedPods(beginning, listing(10, pod("a", 5)), stream(modified("a", 11)))
    words = await hear(server, "Apply a@11")
    assert words[-4:] == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]
    assert versions(server) == ["stream", "list 0", "watch 10"]
    assert server.times[-1] <= 16


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_what_was_told_before_a_lost_marker_is_told_again(end: str) -> None:
    server = ScriptedPods(stream(added("a", 5), end=end), stream(added("b", 6), marker(10)))
    assert await hear(server, "InitDone") == ["Init", "InitApply a@5", "Init", "InitApply b@6", "InitDone"]


async def test_a_clean_end_resumes_at_once_from_the_last_version_without_a_list() -> None:
    server = ScriptedPods(
        TOLD,
        stream(modified("a", 17), end="close"),
        stream(bookmark(18), 60.0, bookmark(23), 60.0, end="close"),
        stream(modified("a", 24)),
    )
    assert (await hear(server, "Apply a@24"))[3:] == ["Apply a@17", "Apply a@24"]
    assert versions(server) == ["stream", "watch 10", "watch 17", "watch 23"]
    assert server.times == pytest.approx([0, 2, 2, 122])


async def test_a_cut_connection_resumes_from_the_last_version_within_the_first_backoff() -> None:
    server = ScriptedPods(TOLD, stream(modified("a", 17), end="cut"), stream(modified("a", 18)))
    await hear(server, "Apply a@18")
    assert versions(server) == ["stream", "watch 10", "watch 17"]
    assert server.times[2] <= 2 + 0.8


async def test_initial_events_are_no_place_to_resume_from() -> None:
    server = ScriptedPods(stream(added("a", 900), marker(10), 2.0, end="close"), stream(modified("a", 901)))
    await hear(server, "Apply a@901")
    assert versions(server) == ["stream", "watch 10"]


@pytest.mark.parametrize(
    "expired",
    [
        pytest.param(stream(error(410, "Expired"), end="close"), id="as a line"),
        pytest.param(stream(error(410, "Gone"), end="close"), id="as a line of an older server"),
        pytest.param(refuse(410, "Expired"), id="as an HTTP status"),
    ],
)
async def test_an_expired_version_has_everything_told_again_at_once(expired: Reply) -> None:
    server = ScriptedPods(TOLD, stream(modified("a", 17), end="close"), expired, stream(added("b", 30), marker(40)))
    ear = Ear()
    words = await hear(server, "InitApply b@30", ear)
    assert words[-2:] == ["Init", "InitApply b@30"]
    assert versions(server) == ["stream", "watch 10", "watch 17", "stream"]
    assert server.times[3] == server.times[2]
    assert ear.heard == []


async def test_a_server_that_finds_its_own_newest_version_too_old_is_not_hammered() -> None:
    expired = stream(error(410, "Expired"), end="close")
    server = ScriptedPods(*[TOLD, expired] * 10, TOLD, stream(modified("a", 99)))
    await hear(server, "Apply a@99")
    telling = server.times[::2]
    pauses = [later - earlier - 2 for earlier, later in pairwise(telling)]
    assert sum(pauses) > 15


async def test_a_list_is_asked_for_at_the_seen_version_and_then_at_the_latest() -> None:
    server = ScriptedPods(
        NO_STREAM,
        listing(10),
        stream(modified("a", 17), end="close"),
        refuse(410, "Expired"),
        refuse(504, "Timeout", Retry_After="1"),
        listing(30, pod("b", 25)),
        stream(modified("b", 31)),
    )
    await hear(server, "Apply b@31")
    assert versions(server) == ["stream", "list 0", "watch 10", "watch 17", "list 17", "list unset", "watch 30"]
    assert [query.get("limit") for query in server.queries if "watch" not in query] == [None, None, "500"]


async def test_a_first_list_that_the_cache_cannot_serve_goes_to_the_store() -> None:
    server = ScriptedPods(NO_STREAM, refuse(504, "Timeout"), listing(30), stream(added("a", 31)))
    await hear(server, "Apply a@31")
    assert versions(server) == ["stream", "list 0", "list unset", "watch 30"]


async def test_pages_are_one_telling_and_the_watch_begins_where_the_last_page_says() -> None:
    server = ScriptedPods(
        NO_STREAM,
        refuse(410, "Expired"),
        listing(30, pod("a", 1), token="more"),
        listing(30, pod("b", 2), token="still more"),
        listing(31, pod("c", 3)),
        stream(modified("a", 32)),
    )
    words = await hear(server, "Apply a@32")
    assert words == ["Init", "InitApply a@1", "InitApply b@2", "InitApply c@3", "InitDone", "Apply a@32"]
    assert [query.get("continue") for query in server.queries] == [None, None, None, "more", "still more", None]
    assert versions(server)[-1] == "watch 31"


async def test_an_expired_page_makes_the_next_list_come_whole() -> None:
    server = ScriptedPods(
        NO_STREAM,
        refuse(410, "Expired"),
        listing(30, pod("a", 1), token="more"),
        refuse(410, "Expired"),
        listing(40, pod("a", 1), pod("b", 2)),
        stream(modified("a", 41)),
    )
    words = await hear(server, "Apply a@41")
    assert words == ["Init", "InitApply a@1", "Init", "InitApply a@1", "InitApply b@2", "InitDone", "Apply a@41"]
    assert [query.get("limit") for query in server.queries] == [None, None, "500", "500", None, None]


async def test_a_throttling_server_is_left_alone_for_as_long_as_it_says() -> None:
    ear = Ear()
    server = ScriptedPods(TOLD, refuse(429, "TooManyRequests", Retry_After="7"), stream(modified("a", 11)))
    await hear(server, "Apply a@11", ear)
    assert versions(server) == ["stream", "watch 10", "watch 10"]
    assert 7 <= server.times[2] - server.times[1] <= 7.8
    assert ear.kinds == [ThrottledError, None]


async def test_pauses_grow_to_twelve_seconds_and_no_further() -> None:
    server = ScriptedPods(*[refuse(503, "ServiceUnavailable")] * 40, stream(marker(10)))
    await hear(server, "InitDone")
    pauses = [later - earlier for earlier, later in pairwise(server.times)]
    ceilings = [min(12.0, 0.8 * 2**failures) for failures in range(40)]
    assert all(pause <= ceiling + 0.01 for pause, ceiling in zip(pauses, ceilings, strict=True))
    assert sum(pauses[8:]) / 32 == pytest.approx(6, abs=2.5)


async def test_after_two_healthy_minutes_a_failure_counts_as_the_first() -> None:
    long = stream(bookmark(11), 65.0, bookmark(12), 65.0, end="cut")
    cut = stream(bookmark(13), end="cut")
    server = ScriptedPods(*[refuse(503, "x")] * 8, TOLD, long, cut, stream(added("b", 20)))
    await hear(server, "Apply b@20")
    assert server.times[-2] - server.times[-3] - 130 <= 0.81
    assert server.times[-1] - server.times[-2] <= 1.61


async def test_a_silent_connection_is_given_up_after_70_seconds_and_resumed() -> None:
    server = ScriptedPods(TOLD, stream(modified("a", 17)), stream(modified("a", 18)))
    await hear(server, "Apply a@18")
    assert versions(server) == ["stream", "watch 10", "watch 17"]
    assert 70 <= server.times[2] - server.times[1] <= 70.9


async def test_bookmarks_keep_a_quiet_connection_alive() -> None:
    server = ScriptedPods(stream(marker(10), 69.0, bookmark(11), 69.0, bookmark(12), 69.0, added("a", 13)))
    assert await hear(server, "Apply a@13") == ["Init", "InitDone", "Apply a@13"]
    assert versions(server) == ["stream"]


async def test_a_watch_that_never_said_a_word_may_be_from_the_future_and_is_not_resumed() -> None:
    server = ScriptedPods(TOLD, stream(), stream(added("a", 3), marker(4)))
    words = await hear(server, "InitDone rewound")
    assert words[-3:] == ["Init", "InitApply a@3", "InitDone rewound"]
    assert versions(server) == ["stream", "watch 10", "stream"]


@pytest.mark.parametrize(
    ("code", "reason", "kind"), [(403, "Forbidden", ForbiddenError), (404, "NotFound", NotFoundError)]
)
async def test_a_refusal_is_reported_and_tried_again(code: int, reason: str, kind: type[ApiError]) -> None:
    ear = Ear()
    server = ScriptedPods(*[refuse(code, reason)] * 3, stream(marker(10)))
    await hear(server, "InitDone", ear)
    assert ear.kinds == [kind, kind, kind, None]
    assert ear.heard[0] is not None
    assert ear.heard[0].verb == "watch"
    assert ear.heard[0].namespace == "ns"


async def test_what_the_owner_raises_at_a_problem_ends_the_watch() -> None:
    def stop(problem: ApiError | None) -> None:
        if problem:
            raise problem

    async with ScriptedPods(refuse(403, "Forbidden")).connected() as client:
        with pytest.raises(ForbiddenError):
            await hear_from(Watcher(client, "ns", on_problem=stop), "never")


async def test_a_watch_that_ends_at_once_and_says_nothing_is_a_failure() -> None:
    server = ScriptedPods(TOLD, *[stream(end="close")] * 12, stream(modified("a", 11)))
    await hear(server, "Apply a@11")
    assert set(versions(server)[1:]) == {"watch 10"}
    assert server.times[-1] > 15


async def test_a_line_cut_in_the_middle_is_asked_for_again() -> None:
    whole = modified("a", 12)
    server = ScriptedPods(TOLD, stream(modified("a", 11), whole[:60], end="close"), stream(whole))
    assert (await hear(server, "Apply a@12"))[-2:] == ["Apply a@11", "Apply a@12"]
    assert versions(server)[-1] == "watch 11"


async def test_events_may_come_byte_by_byte() -> None:
    body = added("a", 5) + marker(10) + modified("a", 11)
    server = ScriptedPods(stream(*(body[at : at + 1] for at in range(len(body)))))
    assert await hear(server, "Apply a@11") == ["Init", "InitApply a@5", "InitDone", "Apply a@11"]


async def test_many_events_may_come_in_one_piece() -> None:
    server = ScriptedPods(stream(marker(10) + b"".join(modified("a", 11 + step) for step in range(500))))
    words = await hear(server, "Apply a@510")
    assert words[2:] == [f"Apply a@{11 + step}" for step in range(500)]


async def test_the_largest_object_that_kubernetes_stores_comes_through() -> None:
    huge = modified("a", 11, annotations={"data": "x" * 1_500_000})
    server = ScriptedPods(stream(marker(10), huge))
    assert (await hear(server, "Apply a@11"))[-1] == "Apply a@11"


async def test_lists_may_be_compressed_and_watches_may_not() -> None:
    pods = [pod(f"p{number}", number) for number in range(2000)]
    server = ScriptedPods(NO_STREAM, listing(10, *pods, zipped=True), stream(modified("p0", 5000)))
    assert len(await hear(server, "Apply p0@5000")) == 2003
    encodings = [request.headers["Accept-Encoding"] for request in server.lists_and_watches]
    assert "gzip" in encodings[1]
    assert encodings[0] == encodings[2] == "identity"


async def test_a_version_that_only_earns_unexplained_errors_is_dropped() -> None:
    server = ScriptedPods(TOLD, refuse(500), refuse(500), stream(added("a", 20), marker(30)))
    await hear(server, "InitApply a@20")
    assert versions(server) == ["stream", "watch 10", "watch 10", "stream"]


async def test_explained_server_errors_do_not_cost_the_place() -> None:
    ear = Ear()
    server = ScriptedPods(TOLD, *[refuse(500, "InternalError")] * 5, stream(modified("a", 11)))
    await hear(server, "Apply a@11", ear)
    assert set(versions(server)[1:]) == {"watch 10"}
    assert ear.kinds == [ServerError] * 5 + [None]


async def test_an_error_in_the_stream_other_than_410_resumes_from_the_last_version() -> None:
    server = ScriptedPods(
        TOLD, stream(modified("a", 11), error(500, "InternalError"), end="close"), stream(added("b", 12))
    )
    await hear(server, "Apply b@12")
    assert versions(server) == ["stream", "watch 10", "watch 11"]


async def test_an_older_version_in_the_stream_does_not_take_the_place_back() -> None:
    server = ScriptedPods(TOLD, stream(modified("a", 20), modified("b", 15), end="close"), stream(added("c", 21)))
    await hear(server, "Apply c@21")
    assert versions(server)[-1] == "watch 20"


async def test_a_restored_store_is_told_as_such() -> None:
    server = ScriptedPods(
        NO_STREAM, listing(100), stream(80.0, end="close"), refuse(504, "Timeout"), listing(40, pod("a", 39))
    )
    words = await hear(server, "InitDone rewound")
    assert words[-3:] == ["Init", "InitApply a@39", "InitDone rewound"]
    assert versions(server) == ["stream", "list 0", "watch 100", "list 100", "list unset"]


async def test_something_that_is_no_watch_is_reported_and_retried() -> None:
    ear = Ear()
    proxy = stream(b"<html>sign in</html>\n")
    server = ScriptedPods(proxy, proxy, TOLD, proxy, stream(modified("a", 11)))
    assert (await hear(server, "Apply a@11", ear))[-1] == "Apply a@11"
    assert versions(server) == ["stream", "stream", "stream", "watch 10", "watch 10"]
    assert ear.kinds == [ApiError, ApiError, None]


async def test_a_pod_that_cannot_be_read_is_left_out() -> None:
    odd = line("MODIFIED", pod("odd", 11) | {"status": "what?"})
    server = ScriptedPods(TOLD, stream(odd, modified("a", 12)))
    assert (await hear(server, "Apply a@12"))[3:] == ["Apply a@12"]


async def test_watches_end_at_random_times() -> None:
    server = ScriptedPods(TOLD, *[stream(2.0, end="close")] * 20, stream(modified("a", 11)))
    await hear(server, "Apply a@11")
    asked = {int(query["timeoutSeconds"]) for query in server.queries}
    assert len(asked) > 10
    assert asked <= set(range(300, 601))


async def test_closing_the_stream_closes_its_connection() -> None:
    server = ScriptedPods(stream(marker(10)))
    async with server.connected() as client:
        watcher = Watcher(client, "ns")
        await hear_from(watcher, "InitDone")
        assert watcher.state is State.WATCH


@pytest.fixture(autouse=True)
def forget_clients() -> Iterator[None]:
    yield
    watch._no_watch_list.clear()
