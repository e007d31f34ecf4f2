"""Follows one pod by itself: when the shared watch does not show it, or may not be had.

    confirm     one GET: is the pod still there?
    watch       a watch of this one name (`fieldSelector=metadata.name=...`)
    poll        a GET every `poll_interval`, where even that watch is forbidden

Ends when the pod has ended. Absence is judged by a GET, which the API server answers from the store, never by a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.exceptions import ApiError, ForbiddenError, NotFoundError
from kpo_async.kube.client import Client
from kpo_async.kube.retry import ReconnectBackoff, TokenBucket
from kpo_async.kube.watch.subscription import Presence, Slot
from kpo_async.kube.watch.watcher import Delete, Init, InitDone, watch_pods

GRACE = 1.0
"""Seconds that a fresh pod may take to appear in the shared watch before it is asked for by name."""
POLLING = 60.0
"""Seconds of polling after which a forbidden watch is asked for again."""


class Turnstile:
    """Lets those who follow pods alone ask only few at a time: 15 a second, 4 at once."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(rate=15.0, burst=5)
        self._places = asyncio.Semaphore(4)

    async def take(self) -> None:
        """Wait for a turn to open a watch."""
        await self._bucket.take()

    async def get(self, ask: Callable[[], Awaitable[Pod | None]]) -> Pod | None:
        """What `ask` answers when its turn has come."""
        async with self._places:
            await self._bucket.take()
            return await ask()


class Follower:
    """Keeps one slot up to date without the shared watch."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        slot: Slot,
        turnstile: Turnstile,
        on_watch: Callable[[ForbiddenError | None], None],
    ) -> None:
        """`on_watch` hears once whether the pod can be watched by its name."""
        self._client = client
        self._namespace = namespace
        self._slot = slot
        self._turnstile = turnstile
        self._on_watch = on_watch

    async def check(self, grace: float) -> None:
        """The shared watch does not show the pod, though it works: ask for it, and watch it if it lives on."""
        await asyncio.sleep(grace)
        await self._confirm()
        if self._slot.view.presence is Presence.PRESENT:
            # Alive, so either the shared watch is about to show it, which ends this, or its labels have changed.
            await asyncio.sleep(GRACE)
            await self.follow()

    async def follow(self) -> None:
        """The shared watch may not be had: watch the pod by its name, else poll it."""
        while not self._slot.view.presence.final:
            await self._turnstile.take()
            try:
                await self._watch()
            except ForbiddenError as error:
                self._on_watch(error)
                await self._poll()

    async def _watch(self) -> None:
        """Show what the pod's own watch says. Where it does not show the pod, a GET decides and it goes on."""
        slot, listed = self._slot, False
        events = watch_pods(
            self._client, self._namespace, field_selector=f"metadata.name={slot.name}", on_problem=self._hindered
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Init):
                    listed = False
                elif isinstance(event, InitDone):
                    self._on_watch(None)
                    if not listed:
                        await self._confirm()
                elif event.pod.metadata.uid != slot.uid:
                    await self._confirm()
                elif not isinstance(event, Delete):
                    listed = True
                    slot.show(Presence.PRESENT, event.pod)
                elif event.pod.metadata.deletion_timestamp:
                    slot.show(Presence.GONE, event.pod)
                else:
                    await self._confirm()
                if slot.view.presence.final:
                    return

    def _hindered(self, problem: ApiError | None) -> None:
        if isinstance(problem, ForbiddenError):
            raise problem
        self._slot.report(problem)

    async def _poll(self) -> None:
        """GETs instead of a watch, for a while: rights may be granted, and a watch is cheaper."""
        interval = self._slot.poll_interval
        for _ in range(max(1, int(POLLING / interval))):
            await self._judge(self._get)
            if self._slot.view.presence.final:
                return
            await asyncio.sleep(interval)

    async def _confirm(self) -> None:
        """Ask once, when it is our turn."""
        await self._judge(lambda: self._turnstile.get(self._get))

    async def _get(self) -> Pod | None:
        """The pod of our name, None if there is none. Raises the other errors of `Client.get`."""
        try:
            return pod_from_dict(await self._client.get("pods", self._slot.name, self._namespace))
        except NotFoundError:
            return None

    async def _judge(self, ask: Callable[[], Awaitable[Pod | None]]) -> None:
        """Ask until there is an answer: the pod is there, or it is not, or another one has its name."""
        slot, recovery = self._slot, ReconnectBackoff()
        while not slot.view.presence.final:
            try:
                pod = await ask()
            except ApiError as error:
                slot.report(error)
                await asyncio.sleep(recovery.pause(asyncio.get_running_loop().time(), error.retry_after))
                continue
            slot.report(None)
            if pod is None or pod.metadata.uid != slot.uid:
                slot.show(Presence.VANISHED, None)
            else:
                slot.show(Presence.PRESENT, pod)
            return
