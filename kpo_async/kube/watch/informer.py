"""One watch for everybody in this process who asks about pods of one selection.

What a subscriber may rely on:

- It learns what its pod looks like now. States may be skipped; the last one never is.
- It never sees an older state after a newer one, and nothing after GONE or VANISHED.
- Absence from a list is no proof: VANISHED is said after a GET, or when another pod has taken the name.
- The informer never gives up and never goes silent: what hinders it is in `View.problem`.
- N subscribers cost one list and one watch, and no request of their own while all goes well.

Its task belongs to this module, not to the subscriber that happened to come first: it runs in an empty context,
outlives any of them, and ends a few seconds after the last one, with its client, or with the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from enum import Enum
from itertools import chain, islice
from typing import Any

from kpo_async.api_types import Pod
from kpo_async.exceptions import ApiError, ForbiddenError
from kpo_async.kube.client import Client
from kpo_async.kube.retry import ReconnectBackoff
from kpo_async.kube.shared import SharedPerLoop
from kpo_async.kube.watch.resource_version import is_older
from kpo_async.kube.watch.single_pod import GRACE, Follower, Turnstile
from kpo_async.kube.watch.subscription import Presence, Slot, Subscription, View
from kpo_async.kube.watch.watcher import Apply, Delete, Init, InitApply, InitDone, Watcher

__all__ = ["Informer", "Presence", "Subscription", "View", "follow"]

log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds of work after which the loop gets its turn."""
WOKEN_AT_ONCE = 100
"""Subscribers that are woken in one turn of the loop when there is news for all of them."""
REMEMBERED = 256
"""Deleted pods whose final state is kept for those who ask late."""
FORBIDDEN_PATIENCE = 30.0
"""Seconds that a watch which used to be allowed may be forbidden before the pods are followed one by one."""


class Reach(Enum):
    """How pods are followed."""

    SHARED = "all by one watch"
    SINGLE = "each by itself, because that watch is forbidden"


class Informer:
    """The pods of one selection, and the slots of those that somebody follows. `follow` is the way to use it."""

    def __init__(self, client: Client, namespace: str, selector: str) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._loop = asyncio.get_running_loop()
        self._pods: dict[str, Pod] = {}
        self._told: dict[str, Pod] = {}
        self._deleted: OrderedDict[str, Pod] = OrderedDict()
        self._slots: dict[str, Slot] = {}
        self._synced = False
        self._reach = Reach.SHARED
        self._problem: ApiError | None = None
        self._forbidden_at: float | None = None
        self._refusal: ForbiddenError | None = None
        self._turnstile = Turnstile()
        self._loners: set[asyncio.Task[None]] = set()
        self._watcher = self._new_watcher()
        self._forget_client = client.on_close(self.close)
        self._task = self._start(self._run(), f"kpo-async informer {namespace}/{selector}")

    def subscribe(self, name: str, uid: str, poll_interval: float) -> Subscription:
        """A new place at the pod's slot. Registered before anything is read: no change falls in between."""
        slot = self._slots.get(uid)
        if slot is None:
            slot = self._slots[uid] = Slot(name, uid, poll_interval)
        subscription = Subscription(slot)
        if pod := self._pods.get(uid):
            slot.show(Presence.PRESENT, pod)
        elif pod := self._deleted.get(uid):
            slot.show(Presence.GONE, pod)
        if not slot.view.presence.final and (self._reach is Reach.SINGLE or (self._synced and uid not in self._pods)):
            self._follow_alone(slot, GRACE)
        if slot.alone is None:
            slot.report(self._problem)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Give the place back."""
        slot = subscription.slot
        slot.subscriptions.remove(subscription)
        if not slot.subscriptions:
            _stop(slot)
            del self._slots[slot.uid]

    async def close(self) -> None:
        """End now. Whoever still waits for a view gets a `RuntimeError`."""
        for task in (self._task, *self._loners):
            task.cancel()
        await asyncio.wait((self._task, *self._loners))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # In an empty context: else our log lines would land in the log of the task instance that came first.
        task: asyncio.Task[None] = contextvars.Context().run(self._loop.create_task, work)
        task.set_name(name)
        return task

    def _new_watcher(self) -> Watcher:
        return Watcher(self._client, self._namespace, label_selector=self._selector, on_problem=self._hindered)

    async def _run(self) -> None:
        recovery = ReconnectBackoff()
        try:
            while True:
                try:
                    await self._consume()
                except Exception:  # whatever it is, a frozen cache handed out for ever is worse
                    log.exception("the watch of pods in namespace %r failed and is begun anew", self._namespace)
                self._synced = False
                await asyncio.sleep(recovery.pause(self._loop.time()))
        finally:
            self._end()

    def _end(self) -> None:
        self._forget_client()
        for slot in self._slots.values():
            _stop(slot)
            slot.fail(RuntimeError(f"the informer ended before pod {slot.name} did: its client or its loop was closed"))

    async def _consume(self) -> None:
        self._watcher = self._new_watcher()
        clock, since, handled = time.perf_counter, time.perf_counter(), 0
        async with aclosing(self._watcher.events()) as events:
            async for event in events:
                if isinstance(event, InitDone):
                    await self._swap(event.rewound)
                else:
                    self._take(event)
                handled += 1
                if handled % 32 == 0 and clock() - since > SLICE:
                    await asyncio.sleep(0)
                    since = clock()

    def _take(self, event: Init | InitApply | Apply | Delete) -> None:
        if isinstance(event, Apply):
            self._apply(event.pod)
        elif isinstance(event, InitApply):
            self._told[event.pod.metadata.uid] = event.pod
        elif isinstance(event, Delete):
            self._delete(event.pod)
        else:
            self._told = {}

    def _apply(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        if known is not None and is_older(pod.metadata.resource_version, known.metadata.resource_version):
            return
        self._pods[uid] = pod
        if slot := self._slots.get(uid):
            self._show_shared(slot, pod)

    def _delete(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._pods.pop(uid, None)
        self._told.pop(uid, None)
        slot = self._slots.get(uid)
        if pod.metadata.deletion_timestamp:
            self._deleted[uid] = pod
            if len(self._deleted) > REMEMBERED:
                self._deleted.popitem(last=False)
            if slot:
                _stop(slot)
                slot.show(Presence.GONE, pod)
        elif slot:
            # A real deletion says when. This pod may have lost a label of the selector and live on. The object is of no
            # use: a server sends the state before the change under the version after it.
            self._follow_alone(slot, 0.0)

    async def _swap(self, rewound: bool) -> None:
        """Take over a whole new telling at once, then see what it means for those who are followed."""
        told, self._told = self._told, {}
        if not rewound:
            for uid, fresh in told.items():
                known = self._pods.get(uid)
                if known is not None and is_older(fresh.metadata.resource_version, known.metadata.resource_version):
                    told[uid] = known
        regained = self._reach is Reach.SINGLE
        self._pods, self._synced, self._reach = told, True, Reach.SHARED
        async for slot in self._slices():
            if regained:
                _stop(slot)
            if (pod := self._pods.get(slot.uid)) is not None:
                self._show_shared(slot, pod, rewound=rewound)
            elif not slot.view.presence.final:
                self._follow_alone(slot, GRACE if slot.view.presence is Presence.UNKNOWN else 0.0)

    async def _slices(self) -> AsyncIterator[Slot]:
        """Every slot, few in each turn of the loop: those whom they wake work in the next one."""
        for place, slot in enumerate(list(self._slots.values()), 1):
            if slot.subscriptions:
                yield slot
            if place % WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _show_shared(self, slot: Slot, pod: Pod, *, rewound: bool = False) -> None:
        _stop(slot)
        slot.show(Presence.PRESENT, pod, rewound=rewound)
        slot.report(self._problem)

    def _hindered(self, problem: ApiError | None) -> None:
        """The shared watch is not served, or is again: say so, and do without it where it is forbidden."""
        if problem is None:
            log.info("the watch of pods in namespace %r is served again", self._namespace)
        elif self._problem is None and not isinstance(problem, ForbiddenError):
            log.warning("%s. Trying on until it is served", problem)
        self._problem = problem
        if isinstance(problem, ForbiddenError):
            now = self._loop.time()
            self._forbidden_at = self._forbidden_at or now
            if not self._synced or now - self._forbidden_at > FORBIDDEN_PATIENCE:
                self._reach, self._refusal = Reach.SINGLE, problem
                self._watcher.start_over()  # When the rights are back, a whole telling makes it the shared watch again.
        else:
            self._forbidden_at = None
        self._spread(iter(list(self._slots.values())))

    def _spread(self, slots: Iterator[Slot]) -> None:
        """Tell the slots of the problem, a few in each turn of the loop."""
        for slot in islice(slots, WOKEN_AT_ONCE):
            if not slot.subscriptions or slot.view.presence.final:
                continue
            if self._reach is Reach.SINGLE:
                self._follow_alone(slot, 0.0)
            if slot.alone is None:
                slot.report(self._problem)
        if (following := next(slots, None)) is not None:
            self._loop.call_soon(self._spread, chain((following,), slots))

    def _follow_alone(self, slot: Slot, grace: float) -> None:
        """Keep `slot` up to date without the shared watch, until that shows the pod (again)."""
        if slot.alone is not None:
            return
        follower = Follower(self._client, self._namespace, slot, self._turnstile, self._announce)
        work = follower.follow() if self._reach is Reach.SINGLE else follower.check(grace)
        slot.alone = self._start(work, f"kpo-async pod {self._namespace}/{slot.name}")
        self._loners.add(slot.alone)
        slot.alone.add_done_callback(lambda task: self._left_alone(slot, task))

    def _left_alone(self, slot: Slot, task: asyncio.Task[None]) -> None:
        self._loners.discard(task)
        if slot.alone is task:
            slot.alone = None
        if not task.cancelled() and (error := task.exception()):
            log.error("following pod %s failed and is begun anew", slot.name, exc_info=error)
            self._loop.call_later(GRACE, self._again, slot)

    def _again(self, slot: Slot) -> None:
        if self._slots.get(slot.uid) is slot and not self._task.done():
            self._follow_alone(slot, 0.0)

    def _announce(self, refusal: ForbiddenError | None) -> None:
        """Say once what the forbidden shared watch is replaced by."""
        place = (self._client.config.identity, self._namespace)
        if self._refusal is None or place in _announced:
            return
        _announced.add(place)
        how = "watched by its own name" if refusal is None else "read every poll_interval"
        log.warning(
            "%s. Until pods may be listed and watched in namespace %r, each is %s, which costs the API server more",
            self._refusal,
            self._namespace,
            how,
        )


def _stop(slot: Slot) -> None:
    if slot.alone is not None:
        slot.alone.cancel()
        slot.alone = None


_INFORMERS: SharedPerLoop[tuple[Client, str, str], Informer] = SharedPerLoop(Informer.close)
_announced: set[tuple[str, str]] = set()


@asynccontextmanager
async def follow(
    client: Client, namespace: str, name: str, uid: str, *, selector: str, poll_interval: float = 2.0
) -> AsyncIterator[Subscription]:
    """Follow the pod `uid` through the one watch that all followers of `selector` in this process share.

    `poll_interval`: seconds between GETs where no watch is allowed at all.
    """
    key = (client, namespace, selector)
    async with _INFORMERS.use(key, lambda: Informer(client, namespace, selector)) as informer:
        subscription = informer.subscribe(name, uid, poll_interval)
        try:
            yield subscription
        finally:
            informer.unsubscribe(subscription)
