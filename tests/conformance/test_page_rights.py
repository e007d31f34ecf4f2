"""The API server's rights in `pod.rights` suffice for the page "Pods", and each buys what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from kpo_async.exceptions import ForbiddenError
from kpo_async.json_types import Json
from kpo_async.pod.rights import API_SERVER, RIGHTS, Component, Right, rules
from kpo_async.pod_task import ClusterRef
from kpo_async.reconciler.places import Place
from kpo_async.ui import pod_log
from kpo_async.ui.board import Board
from kpo_async.ui.known_places import KnownPlaces
from tests.conformance.api import Api
from tests.conformance.test_client import with_user
from tests.conformance.test_rights import token_with, without
from tests.factories import eventually
from tests.ui.api_server import INSTALLATION, pod_of


@dataclass
class Viewer:
    """The page of an API server, and a pod that prints a line and waits."""

    place: Place
    board: Board
    pod: Json

    async def log(self) -> str:
        """Return the first events of the pod's log, as the page gets them."""
        metadata = self.pod["metadata"]
        found = await pod_log.find(self.place, metadata["name"], metadata["uid"], INSTALLATION)
        assert found is not None
        events = pod_log.lines(found, "base")
        async for event in events:
            await events.aclose()
            return event.decode()
        return ""

    async def settled(self) -> str:
        """Return what is wrong with the watch once the rows are known, or known not to be."""
        await asyncio.wait_for(self.board.settled.wait(), 15)
        (watch,) = self.board.watches.values()
        return watch.problem


@asynccontextmanager
async def viewing(api: Api, kubeconfig: Path, folder: Path, granted: list[Json]) -> AsyncIterator[Viewer]:
    """Open the page's board as a service account with these rules."""
    source = with_user(kubeconfig, {"token": await token_with(api, granted)})
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(source.config_dict))
    created = await api.create("pods", pod_of("d", "says", command=["sh", "-c", "echo a line; sleep 600"]))
    assert created.status == 201
    place = Place(api.namespace, ClusterRef(config_file=str(file)))

    async def find() -> KnownPlaces:
        return KnownPlaces(INSTALLATION, {place})

    async def runs() -> bool:
        return bool((await api.get("pods", "d-says")).body["status"]["phase"] == "Running")

    await eventually(runs)
    board = Board(find)
    try:
        yield Viewer(place, board, created.body)
    finally:
        await board.close()


async def test_an_api_server_needs_no_other_right(api: Api, kubeconfig: Path, tmp_path: Path) -> None:
    async with viewing(api, kubeconfig, tmp_path, rules(Component.API_SERVER)) as viewer:
        assert await viewer.settled() == ""
        assert [row.pod.name for row in viewer.board.rows.values()] == ["d-says"]
        assert "a line" in await viewer.log()


async def no_list(viewer: Viewer) -> None:
    """From 1.34 on, a watch alone begins with the present pods."""
    problem = await viewer.settled()
    assert ("may not list pods" in problem) != bool(viewer.board.rows)


async def no_watch(viewer: Viewer) -> None:
    assert "may not watch pods" in await viewer.settled()
    assert viewer.board.rows == {}


async def no_pod(viewer: Viewer) -> None:
    assert await viewer.settled() == ""
    with pytest.raises(ForbiddenError, match="may not get pods"):
        await viewer.log()


async def no_log(viewer: Viewer) -> None:
    assert await viewer.settled() == ""
    event = await viewer.log()
    assert event.startswith("event: end")
    assert "may not get pods/log" in event


LOST: dict[tuple[str, str], Callable[[Viewer], Awaitable[None]]] = {
    ("list", "pods"): no_list,
    ("watch", "pods"): no_watch,
    ("get", "pods"): no_pod,
    ("get", "pods/log"): no_log,
}


@pytest.mark.parametrize(
    "right",
    [pytest.param(right, id=f"{right.verb}-{right.resource}") for right in RIGHTS if right.of == API_SERVER],
)
async def test_without_a_right_this_is_lost(right: Right, api: Api, kubeconfig: Path, tmp_path: Path) -> None:
    async with viewing(api, kubeconfig, tmp_path, without(Component.API_SERVER, (), right)) as viewer:
        await LOST[right.verb, right.resource](viewer)
