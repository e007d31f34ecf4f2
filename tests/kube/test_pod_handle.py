"""A handle concerns one pod: another pod of its name is neither returned nor changed."""

from __future__ import annotations

import pytest

from kpo_async.exceptions import NotFoundError
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from tests.factories import create_pod


async def test_a_handle_reads_patches_and_deletes_its_pod(local_client: Client) -> None:
    pod = PodHandle.of(local_client, await create_pod(local_client, "sleep 1000"))
    await pod.patch({"metadata": {"labels": {"changed": "yes"}}})
    found = await pod.get()
    assert found is not None
    assert (found["metadata"]["uid"], found["metadata"]["labels"]["changed"]) == (pod.uid, "yes")
    await pod.delete(grace_period=0)
    assert await pod.get() is None
    await pod.delete()


async def test_a_handle_leaves_another_pod_of_its_name_alone(local_client: Client) -> None:
    pod = PodHandle.of(local_client, await create_pod(local_client, "sleep 1000"))
    stale = PodHandle(local_client, pod.namespace, pod.name, "00000000-0000-0000-0000-000000000000")
    assert await stale.get() is None
    with pytest.raises(NotFoundError):
        await stale.patch({"metadata": {"labels": {"changed": "yes"}}})
    await stale.delete(grace_period=0)
    found = await pod.get()
    assert found is not None
    assert "changed" not in found["metadata"]["labels"]
    assert "deletionTimestamp" not in found["metadata"]
