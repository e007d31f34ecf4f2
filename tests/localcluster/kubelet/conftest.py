from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kpo_async.localcluster.runtime.runtime import Isolation
from tests.localcluster.kubelet.kubelet_harness import Lab, open_lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A node with the best isolation that this machine allows."""
    async with open_lab(tmp_path / "node") as opened:
        yield opened


@pytest.fixture
async def plain_lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A node without namespaces."""
    async with open_lab(tmp_path / "node", Isolation.PLAIN) as opened:
        yield opened


@pytest.fixture(params=["best", "plain"])
async def any_lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """Each kind of isolation in turn."""
    isolation = Isolation.PLAIN if request.param == "plain" else None
    async with open_lab(tmp_path / "node", isolation) as opened:
        yield opened
