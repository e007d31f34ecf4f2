"""What every test gets: virtual time on request, and a failure for anything left behind or any blocked loop.

- `@pytest.mark.virtual_time`: the test's event loop jumps over idle time (`tests/virtual_time.py`).
- An asyncio task that outlives its test fails it. Unclosed sessions and sockets are ResourceWarnings, hence errors.
- A blocking call of the library on the event loop (file, sleep, subprocess, socket) raises `BlockingError` there.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from kpo_async.kube.auth.config import ClusterSource
from kpo_async.kube.client import Client, aclose_all, connect
from kpo_async.localcluster.cluster import LocalCluster
from tests.virtual_time import VirtualTimeLoop

# The same examples in every run, and no deadline: the machine may be busy. HYPOTHESIS_PROFILE=default explores.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_configure(config: pytest.Config) -> None:
    # Else pytest-asyncio, looking for a loop to put back after a test, makes one that nobody closes.
    asyncio.set_event_loop(None)
    config.addinivalue_line("markers", "virtual_time: the test's event loop jumps over idle time")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def clean_loop(request: pytest.FixtureRequest) -> None:
    """Only async tests pay for the checks of the event loop."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("nothing_left_behind")
        request.getfixturevalue("nothing_blocks_the_loop")


@pytest.fixture
async def nothing_left_behind() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await aclose_all()
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    gc.collect(1)  # young garbage is enough to find what this test left, and costs no milliseconds
    assert not leaked, "tasks left behind: " + ", ".join(str(task) for task in leaked)


@pytest.fixture
def nothing_blocks_the_loop() -> Iterator[None]:
    # The emulator's node is local processes and files by design, and it has a loop of its own outside tests.
    detector = BlockBuster(scanned_modules=["kpo_async"], excluded_modules=["kpo_async.localcluster", "kpo_async.demo"])
    detector.activate()
    yield
    detector.deactivate()


@pytest.fixture
async def local_cluster() -> AsyncIterator[LocalCluster]:
    """An embedded cluster of the test's own."""
    async with LocalCluster() as cluster:
        yield cluster
        await aclose_all()  # else the server waits for the clients that linger


@pytest.fixture
async def local_client(local_cluster: LocalCluster) -> AsyncIterator[Client]:
    """A client of it, with all rights."""
    async with connect(ClusterSource(config_file=str(local_cluster.kubeconfig))) as client:
        yield client
