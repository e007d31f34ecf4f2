"""What a page is sent: first everything that its user may see, then what changes, in batches.

    pods      the rows that are new or have changed
    removed   the uids of those that have gone
    watches   how the watches fare that the user may know of
    hidden    how many others there are, by state
    problem   why the places are not known; empty if they are
    hooked    how many deferred tasks of each DAG have a `cluster_hook`, so that their pods are not shown
    dashboard the URL of a pod in the deployment's own dashboard (`pod_link`); empty without one
    now       the server's clock, in seconds since the epoch

The first event of a stream is called `snapshot` and replaces what the page has shown, all others `change`. One is sent
at least every `HEARTBEAT` seconds, so that the page notices a dead connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress

import msgspec

from kpo_async.compat import timeout
from kpo_async.exceptions import ConfigError
from kpo_async.hooks.settings import pod_link
from kpo_async.ui.access import Reader
from kpo_async.ui.board import Board, PlaceWatch, Row, Viewer, WatchState
from kpo_async.ui.server_sent import LIFE, event, retry_after, server_is_stopping

COALESCE = 0.25
"""Seconds for which changes are collected before they are sent."""
HEARTBEAT = 1.0
RECONNECT = 0.1
"""Seconds after which a page opens the stream that follows this one."""
RECOVER = 2.0
"""The same after a stream that was cut."""
SETTLE = 2.0
"""Seconds that a snapshot waits for a new board to be complete. Another process may have served the page before, and
half a snapshot would empty its table."""


class WatchHealth(msgspec.Struct, frozen=True):
    """How one watch fares, as far as the user may know."""

    connection: str
    """The connection's id, or what else says where the cluster is."""
    namespace: str
    state: WatchState
    pods: int
    """Those that the user may see."""
    relists: int
    last_event_at: float | None
    problem: str
    """Empty for those who may not read the connection."""


async def changes(board: Board, reader: Reader) -> AsyncIterator[bytes]:
    """Yield the events for one page."""
    clock = asyncio.get_running_loop().time
    end, name = clock() + LIFE, "snapshot"
    shown: dict[str, str] = {}  # uid -> place
    dashboard = _dashboard()
    yield retry_after(RECOVER)
    with suppress(asyncio.TimeoutError):
        async with timeout(SETTLE):
            await board.settled.wait()
    with board.viewer() as viewer:
        while clock() < end and not server_is_stopping():
            changed = viewer.take()
            present = [row for uid in changed if (row := board.rows.get(uid)) is not None]
            await reader.learn(
                _dag_ids(present) | board.hooked.keys(), [watch.place.cluster for watch in board.watches.values()]
            )
            visible = [row for row in present if _is_visible(row, reader)]
            gone = [uid for uid in changed if uid not in board.rows and shown.pop(uid, "")]
            shown.update((row.pod.uid, row.place) for row in visible)
            health = _health(board.watches.values(), reader, Counter(shown.values()))
            hooked = {dag_id: tasks for dag_id, tasks in board.hooked.items() if reader.sees_dag(dag_id)}
            more = {"problem": board.problem, "hooked": hooked, "dashboard": dashboard, "now": time.time()}
            yield event(name, {"pods": visible, "removed": gone, **health, **more})
            name = "change"
            await _wait_for_news(viewer)
    yield retry_after(RECONNECT)


async def _wait_for_news(viewer: Viewer) -> None:
    """Wait for a change and for what changes with it, at most `HEARTBEAT` seconds."""
    with suppress(asyncio.TimeoutError):
        async with timeout(HEARTBEAT):
            await viewer.news.wait()
            await asyncio.sleep(COALESCE)


def _dashboard() -> str:
    try:
        return pod_link()
    except ConfigError:  # the plugin has logged it
        return ""


def _dag_ids(rows: Iterable[Row]) -> set[str]:
    return {row.pod.task.dag_id for row in rows if row.pod.task is not None}


def _is_visible(row: Row, reader: Reader) -> bool:
    return row.pod.task is not None and reader.sees_dag(row.pod.task.dag_id)


def _health(watches: Iterable[PlaceWatch], reader: Reader, pods: Mapping[str, int]) -> dict[str, object]:
    """Return the watches that the user may know of, and the states of the others. `pods` counts those it sees."""
    known, hidden = [], Counter[str]()
    for watch in watches:
        may_read = reader.sees_connection(watch.place.cluster)
        if not may_read and not pods.get(watch.id):
            hidden[watch.state] += 1
            continue
        known.append(
            WatchHealth(
                connection=_cluster_name(watch),
                namespace=watch.place.namespace,
                state=watch.state,
                pods=pods.get(watch.id, 0),
                relists=max(watch.relists, 0),
                last_event_at=watch.last_event_at,
                problem=watch.problem if may_read else "",
            )
        )
    return {"watches": known, "hidden": hidden}


def _cluster_name(watch: PlaceWatch) -> str:
    cluster = watch.place.cluster
    name = cluster.conn_id or cluster.config_file or "no connection"
    return f"{name} ({cluster.context})" if cluster.context else name
