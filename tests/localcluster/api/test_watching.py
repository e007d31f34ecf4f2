"""The bookmarks and the end of a watch, in virtual time."""

from __future__ import annotations

import asyncio
import json

import pytest

from kpo_async.localcluster.api import resources
from kpo_async.localcluster.api.watching import Watch, WatchOptions
from kpo_async.localcluster.store.store import Store

PODS = resources.BY_NAME["pods"]


async def _timeline(**query: str) -> list[tuple[float, str]]:
    """The events of a quiet watch, with their times."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    watch = Watch(Store(), PODS, None, WatchOptions.parse(PODS, {"resourceVersion": "1", **query}))
    sent = [(loop.time() - begin, json.loads(frame)["type"]) async for frame in watch.frames()]
    return [*sent, (loop.time() - begin, "END")]


@pytest.mark.virtual_time
async def test_bookmarks_come_every_minute_and_two_seconds_before_the_end() -> None:
    sent = await _timeline(allowWatchBookmarks="true", timeoutSeconds="200")
    assert [kind for _, kind in sent] == ["BOOKMARK"] * 4 + ["END"]
    for index, expected in enumerate([60, 120, 180]):
        assert sent[index][0] == pytest.approx(expected, abs=2)
    assert sent[3][0] == pytest.approx(198, abs=0.01)
    assert sent[4][0] == pytest.approx(200, abs=0.01)


@pytest.mark.virtual_time
async def test_a_quiet_watch_without_bookmarks_sends_nothing() -> None:
    assert await _timeline(timeoutSeconds="300") == [(pytest.approx(300, abs=0.01), "END")]


@pytest.mark.virtual_time
async def test_a_watch_without_a_timeout_lasts_half_an_hour_to_an_hour() -> None:
    [(end, kind)] = await _timeline()
    assert kind == "END"
    assert 1800 <= end <= 3600


@pytest.mark.virtual_time
async def test_a_very_short_watch_gets_its_bookmark_in_time() -> None:
    sent = await _timeline(allowWatchBookmarks="true", timeoutSeconds="3")
    assert [(round(when, 2), kind) for when, kind in sent] == [(1.0, "BOOKMARK"), (3.0, "END")]
