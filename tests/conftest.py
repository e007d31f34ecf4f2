"""Checks and fixtures for every test: virtual time, leaked tasks, blocking calls, an embedded cluster.

- `@pytest.mark.virtual_time`: the test's event loop jumps over idle time (`tests/virtual_time.py`).
- An asyncio task that outlives its test fails it. Unclosed sessions and sockets are ResourceWarnings, hence errors.
- A blocking call of the library on the event loop (file, sleep, subprocess, socket) raises `BlockingError`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from hypothesis import settings

from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, aclose_all, connect
from kpo_async.localcluster.cluster import LocalCluster
from tests.virtual_time import VirtualTimeLoop

# The same examples in every run, and no deadline: the machine may be busy. HYPOTHESIS_PROFILE=default explores.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

SHARED = {
    "Airflow on sqlite": ("tests/whole_airflow/",),
    "Airflow on PostgreSQL": ("tests/deployments/",),
    "API server": ("tests/ui/test_access.py", "tests/ui/test_page.py"),
    "Airflow with a dashboard": ("tests/ui/test_whole_airflow.py",),
    "stories": ("tests/commands/test_stories.py",),
    "wheel": ("tests/test_distribution.py",),
    "older version": ("tests/test_rolling_upgrade.py",),
}
"""Which tests share a fixture that takes seconds to set up: the beginnings of their node ids."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        "--kubeconfig",
        dest="cluster",
        metavar="KUBECONFIG",
        type=Path,
        help="run tests/conformance and tests/deployments on this cluster instead of the embedded one",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background has them ignore Ctrl-C, and the programs that they start, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Without this, pytest-asyncio creates a loop to restore after a test, and never closes it.
    asyncio.set_event_loop(None)
    config.addinivalue_line("markers", "virtual_time: the test's event loop jumps over idle time")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use two workers per core for `-n auto`: tests wait more than they compute."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `--dist loadscope`: return a scheduler that keeps the tests of `SHARED` together, and no others."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((scope for scope, paths in SHARED.items() if nodeid.startswith(paths)), nodeid)

    return Scheduler(config, log)


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def clean_loop(request: pytest.FixtureRequest) -> None:
    """Check the event loop of async tests; other tests have none."""
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
    gc.collect(1)  # the young generations hold what this test left, and take less than a millisecond
    assert not leaked, "tasks left behind: " + ", ".join(str(task) for task in leaked)


@pytest.fixture
def nothing_blocks_the_loop() -> Iterator[None]:
    # The emulator's node works with local files and processes by design; outside tests it has its own event loop.
    detector = BlockBuster(scanned_modules=["kpo_async"], excluded_modules=["kpo_async.localcluster", "kpo_async.demo"])
    detector.activate()
    yield
    detector.deactivate()


@pytest.fixture(scope="session")
def real_cluster(request: pytest.FixtureRequest) -> Path | None:
    """The kubeconfig of a real cluster, None for the embedded one."""
    given: Path | None = request.config.getoption("cluster", None)
    return given


@pytest.fixture
async def local_cluster() -> AsyncIterator[LocalCluster]:
    """An embedded cluster for one test."""
    async with LocalCluster() as cluster:
        yield cluster
        await aclose_all()  # otherwise the server waits for idle clients


@pytest.fixture
async def local_client(local_cluster: LocalCluster) -> AsyncIterator[Client]:
    """A client of `local_cluster` with all rights."""
    async with connect(ClusterSource(config_file=str(local_cluster.kubeconfig))) as client:
        yield client
