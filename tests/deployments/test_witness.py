"""The witness and the judge of `benchmarks/chaos.py`: what they say about pods and lines that they know exactly."""

from __future__ import annotations

import re

import pytest
from havoc.witness import Witness

from kpo_async.demo.cluster import Cluster
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from tests.deployments.repeats import unannounced_repeats
from tests.factories import eventually

LINE = re.compile(r"\] (\S+) counts (\d+)$")


@pytest.mark.timeout(60)
async def test_pods_deleted_while_the_witness_has_no_watch_are_gone(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    witness = Witness()
    cluster = Cluster(local_cluster.kubeconfig, "default", local_client, None)

    async def seen(*names: str) -> bool:
        return {pod.name for pod in witness.pods.values() if not pod.gone} == set(names)

    async def there(*names: str) -> bool:
        return {pod["metadata"]["name"] for pod in (await local_client.list("pods", "default"))["items"]} == set(names)

    async with witness.watching(cluster):
        for name in ("a", "b"):
            spec = {"containers": [{"name": "base", "image": "busybox", "command": ["sleep", "60"]}]}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
            await local_client.create("pods", body, "default")
        await eventually(lambda: seen("a", "b"))
        with local_cluster.faults.throttle(verb="watch"):
            local_cluster.faults.expire_watches()
            await local_client.delete("pods", "a", "default", grace_period_seconds=0)
            await eventually(lambda: there("b"))
            local_cluster.faults.compact()
        await eventually(lambda: seen("b"))


@pytest.mark.parametrize(
    ("between", "repeated"),
    [
        ([], ["[base] pod-a counts 1"]),
        (["The lines that follow are repeated"], []),
        (["Created pod default/pod-a"], []),
        (["Created pod default/pod-b"], ["[base] pod-a counts 1"]),
    ],
)
def test_a_repeated_line_needs_a_sentence_or_a_new_pod_of_that_name(between: list[str], repeated: list[str]) -> None:
    assert unannounced_repeats(["[base] pod-a counts 1", *between, "[base] pod-a counts 1"], LINE) == repeated
