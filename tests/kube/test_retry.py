"""Which calls are retried, how soon, and how many calls a second a client makes."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.exceptions import ApiError, ConflictError, ServerError, ThrottledError, UnreachableError
from kpo_async.kube.errors import Action, Unreachable, from_response
from kpo_async.kube.retry import Backoff, TokenBucket, is_retried
from tests.kube.scripted_server import cut, ok, page, refuse, scripted, silence, stream

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    ("code", "again"),
    [(429, True), (500, True), (502, True), (503, True), (504, True), (400, False), (401, False), (403, False),
     (404, False), (409, False), (410, False), (413, False), (422, False), (501, False)],
)  # fmt: skip
def test_only_transient_failures_are_retried(code: int, again: bool) -> None:
    assert is_retried(from_response(Action("get", "pods"), code, b"")) is again


@pytest.mark.parametrize(
    ("reason", "again"), [(reason, reason not in ("CertificateNotTrusted", "AddressInvalid")) for reason in Unreachable]
)
def test_an_unreachable_server_is_retried_unless_that_cannot_help(reason: Unreachable, again: bool) -> None:
    assert is_retried(UnreachableError("", verb="get", resource="pods", reason=reason)) is again


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(first=0.5, factor=2, cap=8)
    assert [backoff.ceiling(failures) for failures in (1, 2, 3, 4, 5, 6, 1000)] == [0.5, 1, 2, 4, 8, 8, 8]


def test_jitter_is_full_and_added_to_what_the_server_asked_for() -> None:
    backoff = Backoff(first=1.0, cap=1.0)
    delays = [backoff.delay(1) for _ in range(300)]
    assert min(delays) < 0.2
    assert max(delays) > 0.8
    assert all(5 <= backoff.delay(1, retry_after=5) <= 6 for _ in range(100))


def test_jitter_can_be_half_or_nothing() -> None:
    half, none = Backoff(first=1.0, cap=1.0, jitter=0.5), Backoff(first=0.5, factor=1, jitter=0)
    assert all(0.5 <= half.delay(1) <= 1 for _ in range(100))
    assert {none.delay(failures) for failures in range(1, 20)} == {0.5}


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    loop = asyncio.get_running_loop()
    limit = TokenBucket(rate=10, burst=5)
    passed: list[float] = []

    async def call() -> None:
        await limit.take()
        passed.append(round(loop.time(), 6))

    await asyncio.gather(*(call() for _ in range(8)))
    assert passed == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]
    await asyncio.sleep(60)
    began = loop.time()
    await asyncio.gather(*(call() for _ in range(5)))
    assert loop.time() == began


async def test_the_delay_of_a_bucket_follows_its_current_rate() -> None:
    bucket = TokenBucket(rate=10, burst=2)
    assert (bucket.tokens, bucket.delay()) == (2, 0)
    for _ in range(4):
        bucket.spend()
    assert (bucket.tokens, bucket.delay()) == (-2, pytest.approx(0.3))
    bucket.rate = 100
    assert bucket.delay() == pytest.approx(0.03)
    await asyncio.sleep(0.03)
    assert bucket.tokens == pytest.approx(1)
    assert bucket.delay() == pytest.approx(0)


async def test_a_client_keeps_its_calls_to_its_rate() -> None:
    async with scripted(ok()) as server, server.client(rate=10, burst=2) as client:
        await asyncio.gather(*(client.get("pods", "x", "ns") for _ in range(12)))
        times = [request.at for request in server.requests]
    assert times[-1] - times[0] == pytest.approx(1.0, abs=0.05)


FAULTS = {
    "429": refuse(429, "TooManyRequests"),
    "500": refuse(500, "InternalError"),
    "502 of a proxy": page(502, "<html>Bad Gateway</html>"),
    "503": refuse(503, "ServiceUnavailable"),
    "504": refuse(504, "Timeout"),
    "no answer": cut(),
    "half an answer": stream(b'{"kind":', end="cut"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("verb", ["get", "create", "patch", "delete", "list"])
async def test_every_verb_survives_two_failures(verb: str, fault: object) -> None:
    async with scripted(fault, fault, ok({"kind": "Pod"})) as server, server.client() as client:
        calls = {
            "get": lambda: client.get("pods", "x", "ns"),
            "create": lambda: client.create("pods", {"metadata": {"name": "x"}}, "ns"),
            "patch": lambda: client.patch("pods", "x", {}, "ns"),
            "delete": lambda: client.delete("pods", "x", "ns", uid="u"),
            "list": lambda: client.list("pods", "ns"),
        }
        assert await calls[verb]() == {"kind": "Pod"}
        first, second, third = server.requests
    assert (first.method, first.path, first.body) == (third.method, third.path, third.body)
    assert second.at - first.at <= 0.6
    assert third.at - second.at <= 1.1


async def test_a_conflict_is_not_repeated() -> None:
    async with scripted(refuse(409, "AlreadyExists")) as server, server.client() as client:
        with pytest.raises(ConflictError):
            await client.create("pods", {"metadata": {"name": "x"}}, "ns")
        assert len(server.requests) == 1
    async with scripted(refuse(409, "Conflict")) as server, server.client() as client:
        with pytest.raises(ConflictError):
            await client.delete("pods", "x", "ns", uid="u")
        assert len(server.requests) == 1


async def test_a_create_that_conflicts_with_another_one_in_the_quota_is_repeated() -> None:
    conflict = refuse(409, "Conflict")
    async with scripted(conflict, conflict, ok({"kind": "Pod"})) as server, server.client() as client:
        assert await client.create("pods", {"metadata": {"name": "x"}}, "ns") == {"kind": "Pod"}


@pytest.mark.parametrize(("code", "reason"), [(429, "TooManyRequests"), (503, "ServiceUnavailable"), (504, "Timeout")])
async def test_retry_after_is_honoured_with_every_code(code: int, reason: str) -> None:
    async with scripted(refuse(code, reason, Retry_After="7"), ok()) as server, server.client() as client:
        await client.get("pods", "x", "ns")
        first, second = server.requests
    assert 7 <= second.at - first.at <= 7.6


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(refuse(503, "ServiceUnavailable"), ServerError, id="503"),
        pytest.param(refuse(429, "TooManyRequests"), ThrottledError, id="429"),
        pytest.param(cut(), UnreachableError, id="reset"),
        pytest.param(silence(), UnreachableError, id="silence"),
    ],
)
async def test_the_budget_limits_the_seconds_and_the_last_failure_is_raised(
    fault: object, kind: type[ApiError]
) -> None:
    loop = asyncio.get_running_loop()
    async with scripted(fault) as server, server.client(retry_budget=25) as client:
        began = loop.time()
        with pytest.raises(kind):
            await client.get("pods", "x", "ns")
        assert 10 < loop.time() - began <= 25.1


async def test_a_pause_longer_than_the_budget_is_not_waited_for() -> None:
    async with scripted(refuse(429, "TooManyRequests", Retry_After="60")) as server, server.client() as client:
        with pytest.raises(ThrottledError) as caught:
            await client.get("pods", "x", "ns")
        assert caught.value.retry_after == 60
        assert asyncio.get_running_loop().time() < 1


async def test_a_retry_that_waits_too_long_for_its_turn_is_the_failure_it_was() -> None:
    async with scripted(refuse(503, "ServiceUnavailable")) as server:
        async with server.client(rate=0.01, burst=1) as client:
            with pytest.raises(ServerError):
                await client.get("pods", "x", "ns")
        assert len(server.requests) == 1


async def test_the_callers_deadline_cuts_retries_short() -> None:
    async with scripted(refuse(503, "ServiceUnavailable")) as server, server.client() as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.get("pods", "x", "ns"), 3)
        assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
