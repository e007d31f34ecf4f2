"""All wanted containers of a pod, followed as the views of an informer tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from kpo_async.kube.watch.subscription import Presence, Slot, Subscription
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LogPlan
from kpo_async.logs.pod import COMPANION_LINGER, follow_pod
from tests.logs.kubelet import LogKubelet
from tests.logs.test_follow import Shown
from tests.pod.samples import ended, pod, running, waiting

pytestmark = pytest.mark.virtual_time


class Story:
    """A pod whose views a test tells one by one, and what is shown of its logs."""

    def __init__(self, **spec: Any) -> None:
        self.kubelet = LogKubelet()
        self.shown = Shown()
        self.cursors: dict[str, Cursor] = {}
        self._slot = Slot("p", "uid", 2.0)
        self._spec = spec
        self._version = 0

    def tell(self, presence: Presence = Presence.PRESENT, **status: Any) -> None:
        self._version += 1
        self._slot.show(presence, pod(**self._spec, **status, resourceVersion=str(self._version)))

    @asynccontextmanager
    async def followed(self, plan: LogPlan | None = None) -> AsyncIterator[asyncio.Task[bool]]:
        async with self.kubelet.serving() as client:
            feed = Subscription(self._slot)
            task = asyncio.create_task(follow_pod(client, feed, plan or LogPlan(), self.shown, cursors=self.cursors))
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.wait([task])

    @property
    def texts(self) -> list[str]:
        return [record.text for record in self.shown.records]


async def test_the_base_container_is_followed_from_its_start_to_its_end() -> None:
    story = Story()
    log = story.kubelet.log()
    async with story.followed() as task:
        story.tell(phase="Pending", statuses=[waiting()])
        log.write("one")
        await asyncio.sleep(5)
        assert story.texts == []
        story.tell(statuses=[running()])
        await story.shown.until("one")
        log.write("two")
        log.finish()
        story.tell(statuses=[ended(code=3)])
        assert await task
        assert story.texts == ["[base] one", "[base] two"]
        assert story.cursors["base"].seen == 2


async def test_init_containers_come_first() -> None:
    story = Story(init_containers=[{"name": "prepare"}])
    story.kubelet.log("prepare").write("preparing")
    async with story.followed(LogPlan(init_containers=True)) as task:
        story.tell(phase="Pending", init_statuses=[running("prepare")], statuses=[waiting()])
        await story.shown.until("preparing")
        story.kubelet.log("prepare").finish()
        story.kubelet.log().write("working")
        story.tell(init_statuses=[ended("prepare")], statuses=[running()])
        await story.shown.until("working")
        story.kubelet.log().finish()
        story.tell(init_statuses=[ended("prepare")], statuses=[ended()])
        assert await task
        assert story.texts == ["[prepare] preparing", "[base] working"]


async def test_a_companion_that_never_ends_is_left_soon_after_the_base_container() -> None:
    story = Story(containers=[{"name": "base"}, {"name": "companion"}])
    async with story.followed(LogPlan(containers=True)) as task:
        story.kubelet.log("companion").write("for ever")
        story.tell(statuses=[running(), running("companion")])
        await story.shown.until("for ever")
        story.kubelet.log().finish()
        story.tell(statuses=[ended(), running("companion")])
        now = asyncio.get_running_loop().time()
        assert not await task
        assert asyncio.get_running_loop().time() - now <= COMPANION_LINGER + 0.5
        await asyncio.sleep(1)  # the server notices
        assert story.kubelet.open == 0


async def test_a_pod_that_goes_away_ends_the_following_with_what_was_read() -> None:
    story = Story()
    async with story.followed() as task:
        story.kubelet.log().write("one")
        story.tell(statuses=[running()])
        await story.shown.until("one")
        story.kubelet.log().finish()
        story.kubelet.refusals.extend([404] * 5)
        story.tell(Presence.GONE, statuses=[running()])
        await task
        assert story.texts[0] == "[base] one"


async def test_a_pod_that_vanished_before_it_was_seen_has_no_logs() -> None:
    story = Story()
    async with story.followed() as task:
        story._slot.show(Presence.VANISHED, None)
        assert await task
        assert story.kubelet.asked == []


async def test_a_pod_that_never_started_has_no_logs() -> None:
    story = Story()
    async with story.followed() as task:
        story.tell(phase="Failed", reason="Evicted")
        assert await task
        assert story.kubelet.asked == []


async def test_whoever_goes_on_later_starts_where_the_cursors_say() -> None:
    story = Story()
    log = story.kubelet.log()
    async with story.followed():
        log.write("one", "two")
        story.tell(statuses=[running()])
        await story.shown.until("two")
    handed_over = msgspec.json.encode(story.cursors)
    later = Story()
    later.kubelet = story.kubelet
    later.cursors = msgspec.json.decode(handed_over, type=dict[str, Cursor])
    async with later.followed() as task:
        log.write("three")
        log.finish()
        later.tell(statuses=[ended()])
        assert await task
    assert story.texts + later.texts == ["[base] one", "[base] two", "[base] three"]


async def test_what_the_sink_raises_is_raised_and_not_wrapped() -> None:
    story = Story()

    def sink(record: object) -> None:
        raise OSError("the disk is full")

    async with story.kubelet.serving() as client:
        story.tell(statuses=[running()])
        log = story.kubelet.log()
        following = asyncio.create_task(follow_pod(client, Subscription(story._slot), LogPlan(), sink))
        log.write("one")
        await asyncio.sleep(1)
        log.write("two")
        with pytest.raises(OSError, match="the disk is full"):
            await following


async def test_without_any_wanted_log_nothing_is_asked_and_the_end_is_noticed() -> None:
    story = Story()
    async with story.followed(LogPlan(containers=False)) as task:
        story.tell(statuses=[running()])
        await asyncio.sleep(5)
        assert not task.done()
        story.tell(statuses=[ended()])
        assert await task
        assert story.kubelet.asked == []
