"""How far the API server's clock is ahead, by the Date headers of its responses."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.kube.server_clock import ServerClock
from tests.kube.scripted_server import scripted

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
moments = st.timedeltas(timedelta(-1000), timedelta(1000)).map(lambda since: NOON + since)
durations = st.timedeltas(timedelta(0), timedelta(minutes=1))


@given(sent=moments, underway=durations, taken=durations, ahead=st.timedeltas(timedelta(-30), timedelta(30)))
def test_the_estimated_difference_never_exceeds_the_real_one(
    sent: datetime, underway: timedelta, taken: timedelta, ahead: timedelta
) -> None:
    clock = ServerClock()
    clock.read(format_datetime(sent + underway + ahead, usegmt=True), sent, sent + underway + taken)
    assert abs(clock.ahead) <= abs(ahead)
    assert abs(ahead - clock.ahead) <= timedelta(seconds=1) + underway + taken


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_response_without_a_date_changes_nothing(date: str | None) -> None:
    clock = ServerClock()
    clock.read("Thu, 01 Jan 2026 12:10:00 GMT", NOON, NOON)
    clock.read(date, NOON, NOON)
    assert clock.ahead == timedelta(minutes=10)


async def test_a_client_knows_the_clock_of_its_server() -> None:
    async def an_hour_ahead(request: web.Request) -> web.StreamResponse:
        date = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
        return web.json_response({}, headers={"Date": date})

    async with scripted(an_hour_ahead) as server, server.client() as client:
        await client.get("pods", "x", "ns")
        assert abs(client.clock.ahead - timedelta(hours=1)) <= timedelta(seconds=2)
