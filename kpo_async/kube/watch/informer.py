"""One watch for all tasks of this process that follow pods of one selection.

What a subscriber may rely on:

- It receives the current state of its pod. States may be skipped; the last one never is.
- It never receives an older state after a newer one, and nothing after GONE or FINAL_STATE_UNKNOWN.
- Absence from a list is no proof: FINAL_STATE_UNKNOWN follows a GET, or another pod under the same name.
- The informer never gives up and never goes silent: `View.problem` holds what keeps it from working.
- N subscribers cost one list and one watch, and no requests of their own while all goes well.

The informer's task belongs to this module, not to the subscriber that came first: it runs in an empty context, outlives
every subscriber, and ends a few seconds after the last one, with its client, or with the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timezone
from enum import Enum
from itertools import chain, islice
from typing import Any

from kpo_async.api_types import Pod
from kpo_async.exceptions import ApiError, ForbiddenError
from kpo_async.kube.client import Client
from kpo_async.kube.retry import ReconnectBackoff
from kpo_async.kube.shared import SharedPerLoop
from kpo_async.kube.watch.events import Apply, Delete, Init, InitApply, InitDone
from kpo_async.kube.watch.resource_version import is_older
from kpo_async.kube.watch.single_pod import GRACE, RequestGate, SinglePodWatch
from kpo_async.kube.watch.subscription import PodEntry, Presence, Subscription
from kpo_async.kube.watch.watcher import Watcher
from kpo_async.metrics import PENDING_AGE, PODS, WATCH_AGE, Metric, Tags, provide_gauges

log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds of work after which the informer yields to the loop."""
BATCH = 100
"""Subscribers that are woken in one turn of the loop when there is news for all of them."""
REMEMBERED = 256
"""Deleted pods whose final state is kept for late subscribers."""
FORBIDDEN_PATIENCE = 30.0
"""Seconds that a watch which used to be allowed may be forbidden before pods are watched singly."""


class Mode(Enum):
    """How pods are followed at the moment."""

    SYNCING = "syncing"
    """By the shared watch, whose first sync is not complete."""
    SHARED = "shared"
    """By the shared watch."""
    SINGLE = "single"
    """Each by itself, because the shared watch is forbidden."""


class Informer:
    """The pods of one selection, and an entry for each pod that has subscribers. Use `follow`."""

    def __init__(self, client: Client, namespace: str, selector: str) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._loop = asyncio.get_running_loop()
        self._pods: dict[str, Pod] = {}
        self._incoming: dict[str, Pod] = {}
        self._deleted: OrderedDict[str, Pod] = OrderedDict()
        self._entries: dict[str, PodEntry] = {}
        self._mode = Mode.SYNCING
        self._problem: ApiError | None = None
        self._forbidden_since: float | None = None
        self._refusal: ForbiddenError | None = None
        self._gate = RequestGate()
        self._single_watches: set[asyncio.Task[None]] = set()
        self._watcher = self._new_watcher()
        self._forget_client = client.on_close(self.close)
        self._forget_gauges = provide_gauges(self._gauges)
        self._task = self._start(self._run(), f"kpo-async informer {namespace}/{selector}")

    def subscribe(self, name: str, uid: str, poll_interval: float) -> Subscription:
        """Add a subscriber to the pod's entry, before anything is read: no change is lost in between."""
        entry = self._entries.get(uid)
        if entry is None:
            entry = self._entries[uid] = PodEntry(name, uid, poll_interval)
        subscription = Subscription(entry)
        if pod := self._pods.get(uid):
            entry.show(Presence.PRESENT, pod)
        elif pod := self._deleted.get(uid):
            entry.show(Presence.GONE, pod)
        missing = self._mode is Mode.SHARED and uid not in self._pods
        if not entry.view.presence.final and (self._mode is Mode.SINGLE or missing):
            self._watch_singly(entry, GRACE)
        if entry.single_watch is None:
            entry.report(self._problem)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscriber, and the entry with its last one."""
        entry = subscription.entry
        entry.subscriptions.remove(subscription)
        if not entry.subscriptions:
            _stop_single_watch(entry)
            del self._entries[entry.uid]

    async def close(self) -> None:
        """End at once. Subscribers that wait for a view get a `RuntimeError`."""
        for task in (self._task, *self._single_watches):
            task.cancel()
        await asyncio.wait((self._task, *self._single_watches))

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        # An empty context keeps the informer's log lines out of the log of the task instance that came first.
        task: asyncio.Task[None] = contextvars.Context().run(self._loop.create_task, work)
        task.set_name(name)
        return task

    def _new_watcher(self) -> Watcher:
        return Watcher(self._client, self._namespace, label_selector=self._selector, on_problem=self._on_problem)

    async def _run(self) -> None:
        backoff = ReconnectBackoff()
        try:
            while True:
                try:
                    await self._consume()
                except Exception:  # whatever it is, a frozen cache handed out for ever is worse
                    log.exception("the watch of pods in namespace %r failed and is started again", self._namespace)
                if self._mode is Mode.SHARED:
                    self._mode = Mode.SYNCING
                await asyncio.sleep(backoff.pause(self._loop.time()))
        finally:
            self._end()

    def _end(self) -> None:
        self._forget_client()
        self._forget_gauges()
        for entry in self._entries.values():
            _stop_single_watch(entry)
            entry.fail(
                RuntimeError(f"the informer ended before pod {entry.name} did: its client or its loop was closed")
            )

    def _gauges(self) -> Iterator[tuple[Metric, float, Tags]]:
        place = (self._client.config.host, self._namespace)
        yield WATCH_AGE, self._loop.time() - self._watcher.received_at, place
        pods = self._pods.values()
        for phase, number in Counter(pod.status.phase or "Unknown" for pod in pods).items():
            yield PODS, number, (*place, phase)
        # All in one format and time zone: the first in the order of texts is the oldest.
        created = (pod.metadata.creation_timestamp for pod in pods if pod.status.phase == "Pending")
        if oldest := min(filter(None, created), default=None):
            now = datetime.now(timezone.utc) + self._client.clock.ahead
            yield PENDING_AGE, (now - datetime.fromisoformat(oldest.replace("Z", "+00:00"))).total_seconds(), place

    async def _consume(self) -> None:
        self._watcher = self._new_watcher()
        clock, since, handled = time.perf_counter, time.perf_counter(), 0
        async with aclosing(self._watcher.events()) as events:
            async for event in events:
                if isinstance(event, InitDone):
                    await self._swap(event.rewound)
                else:
                    self._handle(event)
                handled += 1
                if handled % 32 == 0 and clock() - since > SLICE:
                    await asyncio.sleep(0)
                    since = clock()

    def _handle(self, event: Init | InitApply | Apply | Delete) -> None:
        if isinstance(event, Apply):
            self._apply(event.pod)
        elif isinstance(event, InitApply):
            self._incoming[event.pod.metadata.uid] = event.pod
        elif isinstance(event, Delete):
            self._delete(event.pod)
        else:
            self._incoming = {}

    def _apply(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        known = self._pods.get(uid)
        if known is not None and is_older(pod.metadata.resource_version, known.metadata.resource_version):
            return
        self._pods[uid] = pod
        if entry := self._entries.get(uid):
            self._show_shared(entry, pod)

    def _delete(self, pod: Pod) -> None:
        uid = pod.metadata.uid
        self._pods.pop(uid, None)
        self._incoming.pop(uid, None)
        entry = self._entries.get(uid)
        if pod.metadata.deletion_timestamp:
            self._deleted[uid] = pod
            if len(self._deleted) > REMEMBERED:
                self._deleted.popitem(last=False)
            if entry:
                _stop_single_watch(entry)
                entry.show(Presence.GONE, pod)
        elif entry:
            # A deleted pod has a timestamp. This one may have lost a label of the selector and live on. Its object is
            # useless: a server sends the state before the change under the version after it.
            self._watch_singly(entry, 0.0)

    async def _swap(self, rewound: bool) -> None:
        """Replace all pods by those of a complete sync, and update every entry."""
        incoming, self._incoming = self._incoming, {}
        if not rewound:
            for uid, fresh in incoming.items():
                known = self._pods.get(uid)
                if known is not None and is_older(fresh.metadata.resource_version, known.metadata.resource_version):
                    incoming[uid] = known
        before, self._mode = self._mode, Mode.SHARED
        self._pods = incoming
        async for entry in self._in_batches():
            if before is Mode.SINGLE:
                _stop_single_watch(entry)
            if (pod := self._pods.get(entry.uid)) is not None:
                self._show_shared(entry, pod, rewound=rewound)
            elif not entry.view.presence.final:
                self._watch_singly(entry, GRACE if entry.view.presence is Presence.UNKNOWN else 0.0)

    async def _in_batches(self) -> AsyncIterator[PodEntry]:
        """Every entry with subscribers, a batch in each turn of the loop: the subscribers run in the next turn."""
        for place, entry in enumerate(list(self._entries.values()), 1):
            if entry.subscriptions:
                yield entry
            if place % BATCH == 0:
                await asyncio.sleep(0)

    def _show_shared(self, entry: PodEntry, pod: Pod, *, rewound: bool = False) -> None:
        _stop_single_watch(entry)
        entry.show(Presence.PRESENT, pod, rewound=rewound)
        entry.report(self._problem)

    def _on_problem(self, problem: ApiError | None) -> None:
        """Report that the shared watch fails or works again, and watch pods singly where it is forbidden."""
        if problem is None:
            log.info("the watch of pods in namespace %r is served again", self._namespace)
        elif self._problem is None and not isinstance(problem, ForbiddenError):
            log.warning("%s. Retrying until the watch is served", problem)
        self._problem = problem
        if isinstance(problem, ForbiddenError):
            now = self._loop.time()
            self._forbidden_since = self._forbidden_since or now
            if self._mode is not Mode.SHARED or now - self._forbidden_since > FORBIDDEN_PATIENCE:
                self._mode, self._refusal = Mode.SINGLE, problem
                self._watcher.relist()  # A complete sync ends the single watches, once the rights are back.
        else:
            self._forbidden_since = None
        self._notify_in_batches(iter(list(self._entries.values())))

    def _notify_in_batches(self, entries: Iterator[PodEntry]) -> None:
        """Report the problem to the entries, a batch in each turn of the loop."""
        for entry in islice(entries, BATCH):
            if not entry.subscriptions or entry.view.presence.final:
                continue
            if self._mode is Mode.SINGLE:
                self._watch_singly(entry, 0.0)
            if entry.single_watch is None:
                entry.report(self._problem)
        if (following := next(entries, None)) is not None:
            self._loop.call_soon(self._notify_in_batches, chain((following,), entries))

    def _watch_singly(self, entry: PodEntry, grace: float) -> None:
        """Keep `entry` up to date without the shared watch, until that shows the pod (again)."""
        if entry.single_watch is not None:
            return
        single = SinglePodWatch(self._client, self._namespace, entry, self._gate, self._warn_degraded)
        work = single.follow() if self._mode is Mode.SINGLE else single.check(grace)
        entry.single_watch = self._start(work, f"kpo-async pod {self._namespace}/{entry.name}")
        self._single_watches.add(entry.single_watch)
        entry.single_watch.add_done_callback(lambda task: self._single_watch_done(entry, task))

    def _single_watch_done(self, entry: PodEntry, task: asyncio.Task[None]) -> None:
        self._single_watches.discard(task)
        if entry.single_watch is task:
            entry.single_watch = None
        if not task.cancelled() and (error := task.exception()):
            log.error("the single watch of pod %s failed and is started again", entry.name, exc_info=error)
            self._loop.call_later(GRACE, self._restart_single_watch, entry)

    def _restart_single_watch(self, entry: PodEntry) -> None:
        if self._entries.get(entry.uid) is entry and not self._task.done():
            self._watch_singly(entry, 0.0)

    def _warn_degraded(self, refusal: ForbiddenError | None) -> None:
        """Log once what replaces the forbidden shared watch. `refusal`: of the watch of a single pod."""
        place = (self._client.config.identity, self._namespace)
        if self._refusal is None or place in _warned:
            return
        _warned.add(place)
        how = "watched by its own name" if refusal is None else "read every poll_interval"
        log.warning(
            "%s. Until pods may be listed and watched in namespace %r, each is %s, which costs the API server more",
            self._refusal,
            self._namespace,
            how,
        )


def _stop_single_watch(entry: PodEntry) -> None:
    if entry.single_watch is not None:
        entry.single_watch.cancel()
        entry.single_watch = None


_INFORMERS: SharedPerLoop[tuple[Client, str, str], Informer] = SharedPerLoop(Informer.close)
_warned: set[tuple[str, str]] = set()
"""Identities and namespaces for which `_warn_degraded` has logged: an informer does not live as long as its process."""


@asynccontextmanager
async def follow(
    client: Client, namespace: str, name: str, uid: str, *, selector: str, poll_interval: float = 2.0
) -> AsyncIterator[Subscription]:
    """Subscribe to the pod `uid` through the one watch that all subscribers of `selector` in this process share.

    `poll_interval`: seconds between GETs where every watch is forbidden.
    """
    key = (client, namespace, selector)
    async with _INFORMERS.use(key, lambda: Informer(client, namespace, selector)) as informer:
        subscription = informer.subscribe(name, uid, poll_interval)
        try:
            yield subscription
        finally:
            informer.unsubscribe(subscription)
