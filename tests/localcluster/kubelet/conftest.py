"""Running kubelets without HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kpo_async.localcluster.runtime.runtime import Isolation
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, running_kubelet


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[KubeletHarness]:
    """A running kubelet with the best isolation that this machine allows."""
    async with running_kubelet(tmp_path / "node") as harness:
        yield harness


@pytest.fixture(params=["best", "plain"])
async def any_node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeletHarness]:
    """A running kubelet with each kind of isolation in turn."""
    isolation = Isolation.PLAIN if request.param == "plain" else None
    async with running_kubelet(tmp_path / "node", isolation) as harness:
        yield harness
