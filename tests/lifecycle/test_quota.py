"""Waiting for room in a quota of the namespace, on the embedded cluster."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kpo_async import lifecycle
from kpo_async.exceptions import ForbiddenError, PodStartError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.retry import Backoff
from kpo_async.lifecycle import quota
from kpo_async.localcluster import LocalCluster
from tests.factories import create_pod, identity, manifest, owner, retry_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "BACKOFF", Backoff(first=0.1, cap=0.1))


@pytest.fixture
async def only_pod(local_cluster: LocalCluster, client: Client) -> Json:
    """The one pod that the quota of the namespace has room for."""
    pod = await create_pod(client, "sleep 1000")
    spec = {"metadata": {"name": "small", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}}
    local_cluster.client.create("resourcequotas", spec)
    await asyncio.sleep(0.2)  # the controller counts
    return pod


async def ensure(client: Client, time_limit: float) -> Json:
    task = retry_of(identity(), 1)
    waiting = manifest(task, "true", random_name_suffix=False, name="other")
    return await lifecycle.ensure_pod_within_quota(client, waiting, owner(task), time_limit=time_limit)


async def test_a_pod_is_created_when_the_quota_has_room_and_the_log_says_what_it_waited_for(
    client: Client, only_pod: Json, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async.lifecycle.quota")
    waiting = asyncio.create_task(ensure(client, 20))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await PodHandle.of(client, only_pod).delete(grace_period=0)
    assert (await waiting)["metadata"]["name"] == "other"
    assert caplog.messages[0].startswith(
        "Waiting for room in the quota, for 20 s at most: pod default/other was refused"
    )


@pytest.mark.usefixtures("only_pod")
@pytest.mark.parametrize("time_limit", [0, 0.5, -3])
async def test_the_refusal_is_raised_when_the_time_is_over(client: Client, time_limit: float) -> None:
    with pytest.raises(PodStartError, match="exceeded quota") as caught:
        await ensure(client, time_limit)
    assert caught.value.category == "Quota"


async def test_a_missing_right_is_not_waited_for(local_cluster: LocalCluster, client: Client) -> None:
    with (
        local_cluster.faults.forbid(verb="create", resource="pods") as fault,
        pytest.raises(ForbiddenError),
    ):
        await ensure(client, 20)
    assert fault.hits == 1
