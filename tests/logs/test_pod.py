"""All wanted containers of a pod, followed by the views of an informer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from kpo_async.kube.watch.subscription import PodEntry, Presence, Subscription
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LogPlan
from kpo_async.logs.pod import COMPANION_GRACE, follow_pod
from tests.logs.kubelet import LogKubelet
from tests.logs.test_follow import RecordedLog
from tests.pod.samples import ended, pod, running, waiting

pytestmark = pytest.mark.virtual_time


class ScriptedPod:
    """A pod whose views a test publishes one by one, and what is shown of its logs."""

    def __init__(self, **spec: Any) -> None:
        self.kubelet = LogKubelet()
        self.shown = RecordedLog()
        self.cursors: dict[str, Cursor] = {}
        self._entry = PodEntry("p", "uid", 2.0)
        self._spec = spec
        self._version = 0

    def publish(self, presence: Presence = Presence.PRESENT, **status: Any) -> None:
        self._version += 1
        self._entry.show(presence, pod(**self._spec, **status, resourceVersion=str(self._version)))

    @asynccontextmanager
    async def followed(self, plan: LogPlan | None = None) -> AsyncIterator[asyncio.Task[bool]]:
        async with self.kubelet.serving() as client:
            feed = Subscription(self._entry)
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
    scripted = ScriptedPod()
    log = scripted.kubelet.log()
    async with scripted.followed() as task:
        scripted.publish(phase="Pending", statuses=[waiting()])
        log.write("one")
        await asyncio.sleep(5)
        assert scripted.texts == []
        scripted.publish(statuses=[running()])
        await scripted.shown.until("one")
        log.write("two")
        log.finish()
        scripted.publish(statuses=[ended(code=3)])
        assert await task
        assert scripted.texts == ["[base] one", "[base] two"]
        assert scripted.cursors["base"].seen == 2


async def test_init_containers_come_first() -> None:
    scripted = ScriptedPod(init_containers=[{"name": "prepare"}])
    scripted.kubelet.log("prepare").write("preparing")
    async with scripted.followed(LogPlan(init_containers=True)) as task:
        scripted.publish(phase="Pending", init_statuses=[running("prepare")], statuses=[waiting()])
        await scripted.shown.until("preparing")
        scripted.kubelet.log("prepare").finish()
        scripted.kubelet.log().write("working")
        scripted.publish(init_statuses=[ended("prepare")], statuses=[running()])
        await scripted.shown.until("working")
        scripted.kubelet.log().finish()
        scripted.publish(init_statuses=[ended("prepare")], statuses=[ended()])
        assert await task
        assert scripted.texts == ["[prepare] preparing", "[base] working"]


async def test_a_companion_that_never_ends_is_left_soon_after_the_base_container_has_ended() -> None:
    scripted = ScriptedPod(containers=[{"name": "base"}, {"name": "companion"}])
    async with scripted.followed(LogPlan(containers=True)) as task:
        scripted.kubelet.log("companion").write("for ever")
        scripted.publish(statuses=[running(), running("companion")])
        await scripted.shown.until("for ever")
        scripted.kubelet.log().finish()
        scripted.publish(statuses=[ended(), running("companion")])
        now = asyncio.get_running_loop().time()
        assert not await task
        assert asyncio.get_running_loop().time() - now <= COMPANION_GRACE + 0.5
        await asyncio.sleep(1)  # the server notices
        assert scripted.kubelet.open == 0


async def test_a_deleted_pod_ends_the_following_with_what_was_read() -> None:
    scripted = ScriptedPod()
    async with scripted.followed() as task:
        scripted.kubelet.log().write("one")
        scripted.publish(statuses=[running()])
        await scripted.shown.until("one")
        scripted.kubelet.log().finish()
        scripted.kubelet.refusals.extend([404] * 5)
        scripted.publish(Presence.GONE, statuses=[running()])
        await task
        assert scripted.texts[0] == "[base] one"


async def test_a_pod_that_vanished_before_it_was_seen_has_no_logs() -> None:
    scripted = ScriptedPod()
    async with scripted.followed() as task:
        scripted._entry.show(Presence.FINAL_STATE_UNKNOWN, None)
        assert await task
        assert scripted.kubelet.asked == []


async def test_a_pod_that_never_started_has_no_logs() -> None:
    scripted = ScriptedPod()
    async with scripted.followed() as task:
        scripted.publish(phase="Failed", reason="Evicted")
        assert await task
        assert scripted.kubelet.asked == []


async def test_a_second_follower_resumes_at_the_cursors_of_the_first() -> None:
    scripted = ScriptedPod()
    log = scripted.kubelet.log()
    async with scripted.followed():
        log.write("one", "two")
        scripted.publish(statuses=[running()])
        await scripted.shown.until("two")
    handed_over = msgspec.json.encode(scripted.cursors)
    later = ScriptedPod()
    later.kubelet = scripted.kubelet
    later.cursors = msgspec.json.decode(handed_over, type=dict[str, Cursor])
    async with later.followed() as task:
        log.write("three")
        log.finish()
        later.publish(statuses=[ended()])
        assert await task
    assert scripted.texts + later.texts == ["[base] one", "[base] two", "[base] three"]


async def test_an_error_of_the_sink_is_raised_and_not_wrapped() -> None:
    scripted = ScriptedPod()

    def sink(record: object) -> None:
        raise OSError("the disk is full")

    async with scripted.kubelet.serving() as client:
        scripted.publish(statuses=[running()])
        log = scripted.kubelet.log()
        following = asyncio.create_task(follow_pod(client, Subscription(scripted._entry), LogPlan(), sink))
        log.write("one")
        await asyncio.sleep(1)
        log.write("two")
        with pytest.raises(OSError, match="the disk is full"):
            await following


async def test_without_any_wanted_log_nothing_is_requested_and_the_end_is_noticed() -> None:
    scripted = ScriptedPod()
    async with scripted.followed(LogPlan(containers=False)) as task:
        scripted.publish(statuses=[running()])
        await asyncio.sleep(5)
        assert not task.done()
        scripted.publish(statuses=[ended()])
        assert await task
        assert scripted.kubelet.asked == []
