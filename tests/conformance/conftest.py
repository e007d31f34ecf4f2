"""The same tests on the embedded cluster (by default) or on a real one (`--cluster KUBECONFIG`).

Each test has its own namespace. Tests that use `embedded`, the LocalCluster, are skipped on a real cluster.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Access, Api
from tests.virtual_time import VirtualTimeLoop

NAMESPACE_READY_SECONDS = 90
"""How long the controllers of a real cluster may need after an outage of its API server."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "outage: takes the API server away for minutes (of virtual time on the embedded cluster)"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]] | None:
    if item.get_closest_marker("outage") and config.getoption("cluster", None) is None:
        return {"virtual": VirtualTimeLoop}
    return None


@pytest.fixture
async def local_cluster(real_cluster: Path | None) -> AsyncIterator[LocalCluster | None]:
    if real_cluster is not None:
        yield None
        return
    async with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def embedded(local_cluster: LocalCluster | None) -> LocalCluster:
    if local_cluster is None:
        pytest.skip("needs the embedded cluster")
    return local_cluster


@pytest.fixture
def kubeconfig(real_cluster: Path | None, local_cluster: LocalCluster | None) -> Path:
    """The kubeconfig of the cluster under test."""
    if local_cluster is not None:
        return local_cluster.kubeconfig
    assert real_cluster is not None
    return real_cluster


@pytest.fixture
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    """An administrator in a fresh namespace."""
    name = f"kpo-conformance-{uuid.uuid4().hex[:8]}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        api = Api(session, Access.load(kubeconfig), name)
        answer = await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        assert answer.status == 201, answer.raw
        try:
            await _has_service_account(api)
            yield api
        finally:
            await _clean_up(api)
        # The transports of TLS connections close one turn of the loop after their session.
        await asyncio.sleep(0)


async def _has_service_account(api: Api) -> None:
    """Wait for the namespace's default service account: until it exists, pods are refused."""
    async with api.watch("serviceaccounts", resourceVersion="0") as watch:
        await watch.until(lambda event: event.name == "default", NAMESPACE_READY_SECONDS)


async def _clean_up(api: Api) -> None:
    for resource in ("pods", "configmaps"):
        await api.delete(resource, gracePeriodSeconds="0")
    await api.delete(f"/api/v1/namespaces/{api.namespace}")
