"""Random lives of pods, random faults of the server, random subscribers: the promises of the informer hold.

Every subscriber ends with the true final state, once, and never sees an older state after a newer one. A pod that lives
is never shown as gone. `make soak` runs many more and longer histories.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpo_async.kube.client import Client
from kpo_async.kube.watch import Presence, View, follow
from kpo_async.kube.watch import watcher as watch
from tests.kube.model_server import ModelClient, ModelServer
from tests.virtual_time import VirtualTimeLoop

NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = {"our": "own"}
WHEN = "2026-11-21T09:00:00Z"
REFUSALS = [(0, ""), (401, "Unauthorized"), (403, "Forbidden"), (429, "TooManyRequests"), (500, "InternalError"),
            (500, ""), (503, "ServiceUnavailable"), (504, "Timeout")]  # fmt: skip
HEALING = 200.0
"""Seconds in which all is well again: a stall is found, the longest pause is over, what is missing is confirmed."""


@dataclass(eq=False)
class Subscriber:
    """A task that follows one pod, and the views it got."""

    name: str
    uid: str
    views: list[View] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def follow(self, client: ModelClient) -> None:
        async with follow(cast(Client, client), "ns", self.name, self.uid, selector="our=own") as subscription:
            while not self.views or not self.views[-1].presence.final:
                self.views.append(await subscription.next())


class InformerMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 2**16), initial_events=st.booleans())
    def start(self, seed: int, initial_events: bool) -> None:
        self.loop = VirtualTimeLoop(grace=0)
        self.server = ModelServer(seed)
        self.server.faults.initial_events = initial_events
        self.client = ModelClient(self.server)
        self.subscribers: list[Subscriber] = []
        self.final: dict[str, Any] = {}
        self.births = 0

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def change(self, name: str, **status: Any) -> None:
        pod = self.server.pods[name]
        self.server.write(name, {**pod, "status": {**pod["status"], **status}})

    # Lives

    @rule(name=NAMES, follow_at_once=st.booleans())
    def create(self, name: str, follow_at_once: bool) -> None:
        if name in self.server.pods:
            return
        self.births += 1
        uid = f"{name}-{self.births}"
        metadata = {"name": name, "uid": uid, "labels": LABELS}
        self.server.write(name, {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}})
        if follow_at_once:
            self.follow(name)

    @rule(name=NAMES, phase=st.sampled_from(["Running", "Succeeded", "Failed"]))
    def live(self, name: str, phase: str) -> None:
        if name in self.server.pods:
            self.change(name, phase=phase)

    @rule(name=NAMES, graceful=st.booleans())
    def delete(self, name: str, graceful: bool) -> None:
        if name not in self.server.pods:
            return
        if graceful:
            pod = self.server.pods[name]
            self.server.write(name, {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": WHEN}})
        gone = self.server.write(name, None)
        assert gone is not None
        self.final[gone["metadata"]["uid"]] = gone

    @rule(name=NAMES)
    def replace(self, name: str) -> None:
        self.delete(name, graceful=True)
        self.create(name, follow_at_once=True)

    @rule(name=NAMES)
    def relabel(self, name: str) -> None:
        if name in self.server.pods:
            pod = self.server.pods[name]
            labels = {} if pod["metadata"]["labels"] else LABELS
            self.server.write(name, {**pod, "metadata": {**pod["metadata"], "labels": labels}})

    @rule(name=NAMES)
    def follow(self, name: str) -> None:
        if name in self.server.pods:
            subscriber = Subscriber(name, self.server.pods[name]["metadata"]["uid"])
            self.subscribers.append(subscriber)
            subscriber.task = self.loop.create_task(subscriber.follow(self.client))

    # Time and faults

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 3.0, 30.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.run(seconds)

    @rule(verbs=st.sets(st.sampled_from(["list", "watch", "get"]), min_size=1), refusal=st.sampled_from(REFUSALS))
    def refuse(self, verbs: set[str], refusal: tuple[int, str]) -> None:
        self.server.faults.refusals.update(dict.fromkeys(verbs, refusal))

    @rule(lag=st.integers(0, 6), shred=st.booleans(), repeat=st.booleans())
    def turn(self, lag: int, shred: bool, repeat: bool) -> None:
        faults = self.server.faults
        faults.lag, faults.shred, faults.repeat = lag, shred, repeat

    @rule()
    def heal(self) -> None:
        self.server.faults.refusals.clear()

    @rule(end=st.sampled_from([None, ConnectionResetError()]), half=st.booleans())
    def end_streams(self, end: Exception | None, half: bool) -> None:
        self.server.end_streams(end, cut=b'{"type":"MODIFIED","obj' if half else b"")

    @rule()
    def freeze(self) -> None:
        self.server.freeze_streams()

    @rule()
    def compact(self) -> None:
        self.server.compact()

    @precondition(lambda self: self.server.streams)
    @rule()
    def restart_without_history(self) -> None:
        self.server.compact()
        self.server.end_streams(ConnectionResetError())

    # The promise

    @invariant()
    def no_subscriber_goes_back_in_time_or_sees_a_living_pod_as_gone(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(0)
        alive = {pod["metadata"]["uid"] for pod in self.server.pods.values()}
        for subscriber in self.subscribers:
            versions = [int(view.pod.metadata.resource_version) for view in subscriber.views if view.pod]
            assert versions == sorted(versions)
            assert not any(view.presence.final for view in subscriber.views[:-1])
            assert all(view.pod.metadata.uid == subscriber.uid for view in subscriber.views if view.pod)
            if subscriber.views and subscriber.views[-1].presence.final:
                assert subscriber.uid not in alive

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.heal()
            self.run(HEALING)
            for subscriber in self.subscribers:
                self.check_end(subscriber)
            requests = len(self.server.requests)
            self.run(60)
            assert len(self.server.requests) - requests <= 2 + len(self.subscribers), "requests though all is well"
        finally:
            self.stop()

    def check_end(self, subscriber: Subscriber) -> None:
        assert subscriber.views, "a subscriber got no view"
        view = subscriber.views[-1]
        assert view.problem is None
        if subscriber.uid in self.final:
            assert view.presence.final
            if view.presence is Presence.GONE:
                assert view.pod is not None
                assert view.pod.metadata.resource_version == self.final[subscriber.uid]["metadata"]["resourceVersion"]
                assert view.pod.status.phase == self.final[subscriber.uid]["status"]["phase"]
        else:
            assert view.presence is Presence.PRESENT
            assert view.pod is not None
            assert (
                view.pod.metadata.resource_version == self.server.pods[subscriber.name]["metadata"]["resourceVersion"]
            )
            assert view.pod.status.phase == self.server.pods[subscriber.name]["status"]["phase"]

    def stop(self) -> None:
        self.loop.run_until_complete(self.leave())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        watch._no_watch_list.clear()
        assert not left

    async def leave(self) -> None:
        tasks = [subscriber.task for subscriber in self.subscribers if subscriber.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()


class LongInformerMachine(InformerMachine):
    """The same, with more and longer histories."""


COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
InformerMachine.TestCase.settings = settings(COMMON, max_examples=40, stateful_step_count=30, derandomize=True)
LongInformerMachine.TestCase.settings = settings(COMMON, max_examples=3000, stateful_step_count=80)
TestInformer = InformerMachine.TestCase
TestInformerForLong = pytest.mark.soak(LongInformerMachine.TestCase)
