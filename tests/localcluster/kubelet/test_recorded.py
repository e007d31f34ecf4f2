"""The kubelet writes the same status as a real one, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpo_async.localcluster.kubelet.settings import KubeletSettings
from tests.localcluster.kubelet.kubelet_harness import running_kubelet
from tests.localcluster.kubelet.recorded import FILE, PODS, has_settled, normal

RECORDED = json.loads(FILE.read_text())


@pytest.mark.parametrize(("name", "spec"), [pytest.param(name, spec, id=name) for name, spec in PODS.items()])
async def test_the_status_equals_that_of_a_real_kubelet(tmp_path: Path, name: str, spec: dict[str, Any]) -> None:
    async with running_kubelet(tmp_path / "node", settings=KubeletSettings()) as node:
        node.put("configmaps", "map", data={"b": "x"})
        node.create(name, **spec)
        pod = await node.until(name, lambda pod: has_settled(name, pod))
        assert normal(pod["status"]) == RECORDED[name]
