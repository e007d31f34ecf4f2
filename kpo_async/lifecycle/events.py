"""The cluster's events about pods. Many pods that fail at once, with their node, share the requests.

A list of events is an expensive read: API servers keep no watch cache of them. So a namespace has one request under way
at a time, and a pause after it that grows while more pods fail. A request is about a single pod if only one waits, and
about all pods of the namespace if several do.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from kpo_async.api_types import Event
from kpo_async.exceptions import ApiError
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.shared import SharedPerLoop

PAGE, PAGES = 2000, 2
"""Events in one answer, and the number of answers that are read of a namespace."""
FIRST_PAUSE, MAX_PAUSE = 1.0, 16.0
"""Seconds between two requests. A lost node's pods are deleted at about 20 a second (the controller's default rate)."""
ORDINARY = ("Scheduled", "Pulling", "Pulled", "Created", "Started")
"""Reasons of most of the events there are. They explain no failure, so lists of a whole namespace leave them out."""

log = logging.getLogger(__name__)


async def events_of(pod: PodHandle) -> list[Event]:
    """Return the events about the pod, in no particular order; none where they cannot be read."""
    async with _BATCHES.use((pod.client, pod.namespace), lambda: _Batch(pod.client, pod.namespace)) as batch:
        return await batch.events_of(pod.uid)


class _Batch:
    """The requests for events of one namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._wanted: dict[str, asyncio.Future[list[Event]]] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE
        self._next_at = 0.0
        """When the next request may be sent, by the loop's clock."""

    async def events_of(self, uid: str) -> list[Event]:
        if uid not in self._wanted:
            self._wanted[uid] = asyncio.get_running_loop().create_future()
        wanted = self._wanted[uid]
        if self._fetching is None:
            # An empty context: its log lines must not land in the log of the task that came first.
            self._fetching = contextvars.Context().run(asyncio.ensure_future, self._fetch_wanted())
            self._fetching.set_name(f"kpo-async events of namespace {self._namespace}")
        return await asyncio.shield(wanted)

    async def aclose(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._wanted:
                early = self._next_at - loop.time()
                await asyncio.sleep(early)
                self._pause = FIRST_PAUSE if early <= 0 else min(2 * self._pause, MAX_PAUSE)
                self._next_at = loop.time() + self._pause
                wanted, self._wanted = self._wanted, {}
                try:
                    found = await self._fetch(wanted)
                    for uid, future in wanted.items():
                        future.set_result(found[uid])
                finally:
                    for future in wanted.values():
                        future.cancel()
        finally:
            self._fetching = None
            for future in self._wanted.values():
                future.cancel()
            self._wanted = {}

    async def _fetch(self, uids: Iterable[str]) -> dict[str, list[Event]]:
        """Return the events of these pods, by uid: what arrived of them before an error or the limit."""
        found: dict[str, list[Event]] = defaultdict(list)
        wanted = set(uids)
        token, pages, selector = "", 1, f"involvedObject.uid={next(iter(wanted))}"
        if len(wanted) > 1:
            pages = PAGES
            selector = ",".join(["involvedObject.kind=Pod", *(f"reason!={reason}" for reason in ORDINARY)])
        try:
            for _ in range(pages):
                page = await self._client.list(
                    "events", self._namespace, field_selector=selector, limit=PAGE, continue_token=token
                )
                for event in msgspec.convert(page["items"], list[Event]):
                    if event.involved_object.uid in wanted:
                        found[event.involved_object.uid].append(event)
                if not (token := page["metadata"].get("continue") or ""):
                    break
        except ApiError as error:
            log.debug("Events of namespace %s cannot be read: %s", self._namespace, error)
        return found


_BATCHES: SharedPerLoop[tuple[Client, str], _Batch] = SharedPerLoop(_Batch.aclose, linger=MAX_PAUSE)
