"""An embedded cluster without TLS, for tests of what a real cluster does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Access, Api


@pytest.fixture
async def cluster() -> AsyncIterator[LocalCluster]:
    async with LocalCluster(tls=False) as started:
        yield started


@pytest.fixture
async def api(cluster: LocalCluster) -> AsyncIterator[Api]:
    """An administrator in the namespace `default`."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield Api(session, Access.load(cluster.kubeconfig), "default")
        await asyncio.sleep(0)
