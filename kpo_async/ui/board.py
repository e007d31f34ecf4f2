"""The living pods of this installation in all places, for the pages that are open in this process.

There is one watch for each place (a connection and a namespace) while a page is open, and none otherwise: the board is
opened for the first viewer and closed `LINGER` seconds after the last one. Each process of the API server has its own.
It lives on the API server's event loop and gives it back after each `SLICE` of work.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeAlias

import msgspec

from kpo_async.api_types import Pod
from kpo_async.compat import StrEnum, TaskGroup
from kpo_async.exceptions import ApiError, KpoError
from kpo_async.hooks.kubernetes import resolve
from kpo_async.kube.client import Client, connect
from kpo_async.kube.shared import SharedPerLoop
from kpo_async.kube.watch import Apply, Delete, Init, InitApply, InitDone, Watcher, WatchEvent
from kpo_async.lifecycle.summary import PodSummary, summarize
from kpo_async.reconciler.places import Place
from kpo_async.reconciler.runner import selector
from kpo_async.ui.known_places import KnownPlaces, known_places, place_id

log = logging.getLogger(__name__)

LINGER = 5.0
"""Seconds for which the watches outlive the last page: a page that is loaded again finds them."""
PLACES_PERIOD = 10.0
"""Seconds between two looks for new places, and until the next attempt when the database does not answer."""
UNREACHABLE_PAUSE = 15.0
"""Seconds until a cluster that cannot be configured is tried again: its connection may have been mended."""
SLICE = 0.005
"""Seconds of work after which a watch yields to the loop."""

FindPlaces: TypeAlias = Callable[[], Awaitable[KnownPlaces]]


class WatchState(StrEnum):
    CONNECTING = "connecting"
    SYNCING = "syncing"
    """The first list is under way."""
    LIVE = "live"
    FAILING = "failing"
    """`problem` says why. The watch is tried again and again; the pods may be out of date."""

    @property
    def settled(self) -> bool:
        """Whether the pods are known, or known not to be."""
        return self in (WatchState.LIVE, WatchState.FAILING)


class Row(msgspec.Struct, frozen=True):
    """A living pod, and the id of its place."""

    place: str
    pod: PodSummary


class Viewer:
    """What one page has not been sent yet."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        """The uids of pods that have changed or gone."""
        self.news = asyncio.Event()

    def notify(self, uid: str) -> None:
        self.changed.add(uid)
        self.news.set()

    def take(self) -> set[str]:
        """Return what has changed since the last call."""
        changed, self.changed = self.changed, set()
        self.news.clear()
        return changed


class PlaceWatch:
    """One watch: the pods of a place, and how it fares."""

    def __init__(self, board: Board, place: Place, installation: str) -> None:
        self.place = place
        self.id = place_id(place)
        self.state = WatchState.CONNECTING
        self.problem = ""
        self.last_event_at: float | None = None
        """Seconds since the epoch. A quiet place has no events, and its watch is well all the same."""
        self.relists = -1
        """Lists after the first one."""
        self.uids: set[str] = set()
        self._board = board
        self._selector = selector(installation)

    async def run(self) -> None:
        """Follow the pods until cancelled."""
        while True:
            try:
                source, _ = await resolve(self.place.cluster)
                async with connect(source) as client:
                    self._set(WatchState.SYNCING)
                    watcher = self._watcher(client)
                    async with aclosing(watcher.events()) as events:
                        await self._follow(events)
            except KpoError as error:
                self._set(WatchState.FAILING, str(error))
            except Exception as error:  # of one pod, say: the page must not show the past as if it were the present
                log.exception("The page's watch of %s failed and is started again", self.place)
                self._set(WatchState.FAILING, f"{type(error).__name__}: see the API server's log")
            await asyncio.sleep(UNREACHABLE_PAUSE)

    def _watcher(self, client: Client) -> Watcher:
        namespace = self.place.namespace
        return Watcher(client, namespace, label_selector=self._selector, on_problem=self._on_problem)

    def _on_problem(self, problem: ApiError | None) -> None:
        if problem is not None:
            self._set(WatchState.FAILING, str(problem))
        else:
            self._set(WatchState.LIVE if self.relists >= 0 else WatchState.SYNCING)

    def _set(self, state: WatchState, problem: str = "") -> None:
        self.state, self.problem = state, problem
        self._board.check_settled()

    async def _follow(self, events: AsyncIterator[WatchEvent]) -> None:
        listed: set[str] = set()
        since = time.perf_counter()
        async for event in events:
            if isinstance(event, Init):
                listed = set()
            elif isinstance(event, InitApply | Apply):
                listed.add(event.pod.metadata.uid)
                self._show(event.pod)
            elif isinstance(event, Delete):
                self._remove(event.pod.metadata.uid)
            elif isinstance(event, InitDone):
                self.relists += 1
                for uid in self.uids - listed:
                    self._remove(uid)
                self._set(WatchState.LIVE)
            self.last_event_at = time.time()
            if time.perf_counter() - since > SLICE:
                await asyncio.sleep(0)
                since = time.perf_counter()

    def _show(self, pod: Pod) -> None:
        self.uids.add(pod.metadata.uid)
        self._board.show(Row(self.id, summarize(pod)))

    def _remove(self, uid: str) -> None:
        self.uids.discard(uid)
        self._board.remove(uid)


class Board:
    """The rows of all places. Use `open_board`."""

    def __init__(self, find_places: FindPlaces = known_places) -> None:
        self.rows: dict[str, Row] = {}
        """By the pods' uids."""
        self.watches: dict[str, PlaceWatch] = {}
        """By the places' ids."""
        self.problem = ""
        """Why the places are not known."""
        self.hooked = Counter[str]()
        """How many deferred tasks of each DAG have pods that are not on the board."""
        self.settled = asyncio.Event()
        """Set once all watches that there were at first have settled: the rows are complete."""
        self._find_places = find_places
        self._viewers: set[Viewer] = set()
        # An empty context: the watches must not run, nor log, in the name of the request that came first.
        self._task = contextvars.Context().run(asyncio.create_task, self._run(), name="kpo-async pods for the page")

    @contextmanager
    def viewer(self) -> Iterator[Viewer]:
        """Add a viewer. All present rows are news to it."""
        viewer = Viewer()
        viewer.changed.update(self.rows)
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)

    def show(self, row: Row) -> None:
        """Add or replace a row."""
        self.rows[row.pod.uid] = row
        self._notify(row.pod.uid)

    def remove(self, uid: str) -> None:
        """Remove a row, if there is one."""
        if self.rows.pop(uid, None) is not None:
            self._notify(uid)

    def check_settled(self) -> None:
        """Set `settled` if it is time."""
        if all(watch.state.settled for watch in self.watches.values()):
            self.settled.set()

    async def close(self) -> None:
        """End all watches."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def _notify(self, uid: str) -> None:
        for viewer in self._viewers:
            viewer.notify(uid)

    async def _run(self) -> None:
        """Watch each place as soon as it is known."""
        async with TaskGroup() as group:
            while True:
                try:
                    known = await self._find_places()
                except Exception as error:  # of the database, a secrets backend, a row that another version wrote
                    self.problem = f"Airflow's database does not say where pods are: {type(error).__name__}"
                    log.warning("The page Pods cannot look for namespaces, trying again: %s", error)
                else:
                    self.problem, self.hooked = "", known.hooked
                    for place in known.places:
                        self._watch(group, place, known.installation)
                    self.check_settled()
                await asyncio.sleep(PLACES_PERIOD)

    def _watch(self, group: TaskGroup, place: Place, installation: str) -> None:
        if place_id(place) not in self.watches:
            watch = PlaceWatch(self, place, installation)
            self.watches[watch.id] = watch
            group.create_task(watch.run(), name=f"kpo-async page: {place}")


_BOARDS: SharedPerLoop[str, Board] = SharedPerLoop(Board.close, LINGER)


@asynccontextmanager
async def open_board() -> AsyncIterator[Board]:
    """The board of this process, which all pages share."""
    async with _BOARDS.use("board", Board) as board:
        yield board
