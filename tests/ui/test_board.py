"""The rows of all places stay true: through changes, outages, and clusters that cannot be found."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kpo_async.compat import timeout
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod_task import ClusterRef
from kpo_async.reconciler.places import Place
from kpo_async.ui.board import Board, WatchState
from kpo_async.ui.known_places import KnownPlaces
from tests.ui.api_server import INSTALLATION, pod_of


@asynccontextmanager
async def board_of(*places: Place) -> AsyncIterator[Board]:
    async def find() -> KnownPlaces:
        return KnownPlaces(INSTALLATION, set(places))

    board = Board(find)
    try:
        yield board
    finally:
        await board.close()


def place(cluster: LocalCluster, namespace: str = "default") -> Place:
    return Place(namespace, ClusterRef(config_file=str(cluster.kubeconfig)))


async def until(condition: Callable[[], bool]) -> None:
    async with timeout(15):
        for _ in itertools.takewhile(lambda _: not condition(), itertools.count()):
            await asyncio.sleep(0.02)


def names(board: Board) -> set[str]:
    return {row.pod.name for row in board.rows.values()}


async def test_rows_appear_change_and_go_with_their_pods(local_cluster: LocalCluster, local_client: Client) -> None:
    await local_client.create("pods", pod_of("d", "first", sim={}), "default")
    async with board_of(place(local_cluster)) as board:
        await board.settled.wait()
        assert names(board) == {"d-first"}
        with board.viewer() as viewer:
            assert len(viewer.take()) == 1
            await local_client.create("pods", pod_of("d", "second", sim={}), "default")
            await until(lambda: {row.pod.phase for row in board.rows.values()} == {"Running"})
            await until(lambda: names(board) == {"d-first", "d-second"})
            changed = viewer.take()
            assert changed <= board.rows.keys()
            await local_client.delete("pods", "d-first", "default", grace_period_seconds=0)
            await until(lambda: names(board) == {"d-second"})
            assert len(viewer.take() - board.rows.keys()) == 1


async def test_pods_of_another_installation_and_done_ones_are_no_rows(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    done = pod_of("d", "done", sim={})
    done["metadata"]["labels"]["kpo-async/done"] = "true"
    for pod in (done, pod_of("d", "foreign", installation="another", sim={}), pod_of("d", "mine", sim={})):
        await local_client.create("pods", pod, "default")
    async with board_of(place(local_cluster)) as board:
        await board.settled.wait()
        assert names(board) == {"d-mine"}


async def test_a_pod_that_went_while_the_watch_was_expired_is_gone_after_the_relist(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    await local_client.create("pods", pod_of("d", "brief", sim={}), "default")
    async with board_of(place(local_cluster)) as board:
        await board.settled.wait()
        (watch,) = board.watches.values()
        with local_cluster.faults.fail(503, verb="watch"):
            local_cluster.faults.cut_connections()
            await until(lambda: watch.state is WatchState.FAILING)
            assert "503" in watch.problem
            assert names(board) == {"d-brief"}
            await local_client.delete("pods", "d-brief", "default", grace_period_seconds=0)
            local_cluster.faults.compact()
        await until(lambda: watch.relists == 1)
        assert (names(board), watch.problem, watch.state) == (set(), "", WatchState.LIVE)


async def test_a_cluster_that_is_not_configured_says_so_and_the_others_are_shown(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    await local_client.create("pods", pod_of("d", "shown", sim={}), "default")
    missing = Place("default", ClusterRef(config_file="/missing/kubeconfig"))
    async with board_of(place(local_cluster), missing) as board:
        await board.settled.wait()
        assert names(board) == {"d-shown"}
        problems = {watch.place: watch.problem for watch in board.watches.values()}
        assert "/missing/kubeconfig" in problems[missing]
        assert problems[place(local_cluster)] == ""


async def test_places_that_cannot_be_read_are_a_problem_until_they_can(
    local_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kpo_async.ui.board.PLACES_PERIOD", 0.05)
    away = asyncio.Event()
    away.set()

    async def find() -> KnownPlaces:
        if away.is_set():
            raise ConnectionError("the database is away")
        return KnownPlaces(INSTALLATION, {place(local_cluster)})

    board = Board(find)
    await until(lambda: bool(board.problem))
    assert board.problem == "Airflow's database does not say where pods are: ConnectionError"
    away.clear()
    await until(lambda: not board.problem and len(board.watches) == 1)
    assert "the database is away" in caplog.text
    await board.close()
