"""Keep one pod's entry up to date without the shared watch, where that does not show the pod or is forbidden.

    confirm     one GET: does the pod still exist?
    watch       a watch of this one name (`fieldSelector=metadata.name=...`)
    poll        a GET every `poll_interval`, where even that watch is forbidden

Ends when the pod is gone. Absence is decided by a GET, which the API server answers from the store, never by a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.exceptions import ApiError, ForbiddenError, NotFoundError
from kpo_async.kube.client import Client
from kpo_async.kube.retry import ReconnectBackoff, TokenBucket
from kpo_async.kube.watch.events import Delete, Init, InitDone
from kpo_async.kube.watch.subscription import PodEntry, Presence
from kpo_async.kube.watch.watcher import watch_pods

GRACE = 1.0
"""Seconds that a new pod may take to appear in the shared watch before it is looked up by name."""
POLLING = 60.0
"""Seconds of polling after which a forbidden watch is tried again."""


class RequestGate:
    """Limits the requests of all single watches of an informer: 15 a second, 4 GETs at once."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(rate=15.0, burst=5)
        self._places = asyncio.Semaphore(4)

    async def take(self) -> None:
        """Wait until a watch may be opened."""
        await self._bucket.take()

    async def get(self, fetch: Callable[[], Awaitable[Pod | None]]) -> Pod | None:
        """Wait until a GET may be sent, and return what `fetch` returns."""
        async with self._places:
            await self._bucket.take()
            return await fetch()


class SinglePodWatch:
    """Keeps one entry up to date without the shared watch."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        entry: PodEntry,
        gate: RequestGate,
        on_watch: Callable[[ForbiddenError | None], None],
    ) -> None:
        """`on_watch` is called with None once the pod is watched by its name, or with the error that forbids it."""
        self._client = client
        self._namespace = namespace
        self._entry = entry
        self._gate = gate
        self._on_watch = on_watch

    async def check(self, grace: float) -> None:
        """Look up a pod that the shared watch does not show though it works; watch the pod if it exists."""
        await asyncio.sleep(grace)
        await self._confirm()
        if self._entry.view.presence is Presence.PRESENT:
            # The shared watch is about to show the pod, which ends this task, or the pod's labels have changed.
            await asyncio.sleep(GRACE)
            await self.follow()

    async def follow(self) -> None:
        """Watch the pod by its name, or poll it where that is forbidden, until it is gone."""
        while not self._entry.view.presence.final:
            await self._gate.take()
            try:
                await self._watch()
            except ForbiddenError as error:
                self._on_watch(error)
                await self._poll()

    async def _watch(self) -> None:
        """Show what the pod's own watch delivers. When it does not deliver the pod, a GET decides."""
        entry, listed = self._entry, False
        events = watch_pods(
            self._client, self._namespace, field_selector=f"metadata.name={entry.name}", on_problem=self._on_problem
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Init):
                    listed = False
                elif isinstance(event, InitDone):
                    self._on_watch(None)
                    if not listed:
                        await self._confirm()
                elif event.pod.metadata.uid != entry.uid:
                    await self._confirm()
                elif not isinstance(event, Delete):
                    listed = True
                    entry.show(Presence.PRESENT, event.pod)
                elif event.pod.metadata.deletion_timestamp:
                    entry.show(Presence.GONE, event.pod)
                else:
                    await self._confirm()
                if entry.view.presence.final:
                    return

    def _on_problem(self, problem: ApiError | None) -> None:
        if isinstance(problem, ForbiddenError):
            raise problem
        self._entry.report(problem)

    async def _poll(self) -> None:
        """Send GETs for a while. Then the watch is tried again: rights may be granted, and a watch is cheaper."""
        interval = self._entry.poll_interval
        for _ in range(max(1, int(POLLING / interval))):
            await self._look_up(self._get)
            if self._entry.view.presence.final:
                return
            await asyncio.sleep(interval)

    async def _confirm(self) -> None:
        """Look the pod up once the gate lets the request pass."""
        await self._look_up(lambda: self._gate.get(self._get))

    async def _get(self) -> Pod | None:
        """The pod of this name, None if there is none. Raises the other errors of `Client.get`."""
        try:
            return pod_from_dict(await self._client.get("pods", self._entry.name, self._namespace))
        except NotFoundError:
            return None

    async def _look_up(self, fetch: Callable[[], Awaitable[Pod | None]]) -> None:
        """Call `fetch` until it succeeds, and show its result. A pod with another uid means that this one is gone."""
        entry, backoff = self._entry, ReconnectBackoff()
        while not entry.view.presence.final:
            try:
                pod = await fetch()
            except ApiError as error:
                entry.report(error)
                await asyncio.sleep(backoff.pause(asyncio.get_running_loop().time(), error.retry_after))
                continue
            entry.report(None)
            if pod is None or pod.metadata.uid != entry.uid:
                entry.show(Presence.FINAL_STATE_UNKNOWN, None)
            else:
                entry.show(Presence.PRESENT, pod)
            return
