"""The API server is unreachable or unresponsive while pods end; subscribers get the right exit codes afterwards.

On the embedded cluster these are faults, in virtual time, with simulated pods. On a real one `KPO_CLUSTER_COMMAND`
names the program that stops and starts its parts (`kill apiserver [SIGNAL]`, `start apiserver`); else they are skipped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from kpo_async.compat import timeout
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.kube.watch import Presence, Subscription, View, follow
from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Api, Object, pod

SELECTOR = "suite=outage"
FROZEN_SECONDS = 90.0
PODS = 5

pytestmark = [pytest.mark.outage, pytest.mark.timeout(300)]


class Outages(Protocol):
    """Ways to take the API server away."""

    def killed(self) -> AbstractAsyncContextManager[None]:
        """Refuse connections inside the block, and start again after it."""

    def frozen(self) -> AbstractAsyncContextManager[None]:
        """Accept connections without a response inside the block, and continue after it."""


class EmbeddedOutages:
    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        self._cluster.faults.compact()
        async with self._cluster.faults.refuse():
            yield
            # A server that has just started has no history.
            self._cluster.faults.compact()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        with self._cluster.faults.half_open():
            yield


class RealOutages:
    def __init__(self, command: str, api: Api) -> None:
        self._command = command
        self._api = api

    async def _run(self, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(self._command, *arguments, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0

    async def _ready(self) -> None:
        """Wait until the server responds; a starting process does not announce when it listens."""
        async with timeout(60):
            while True:
                with suppress(aiohttp.ClientError):
                    if (await self._api.get("/readyz")).status == 200:
                        return
                await asyncio.sleep(0.2)

    @asynccontextmanager
    async def killed(self) -> AsyncIterator[None]:
        await self._run("kill", "apiserver")
        try:
            yield
        finally:
            await self._run("start", "apiserver")
            await self._ready()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        await self._run("kill", "apiserver", "STOP")
        try:
            yield
        finally:
            await self._run("kill", "apiserver", "CONT")


@pytest.fixture
def outages(local_cluster: LocalCluster | None, api: Api) -> Outages:
    if local_cluster is not None:
        return EmbeddedOutages(local_cluster)
    command = os.environ.get("KPO_CLUSTER_COMMAND")
    if not command:
        pytest.skip("needs KPO_CLUSTER_COMMAND, the program that stops the API server")
    return RealOutages(command, api)


def _finishing(name: str, seconds: int, code: int) -> Object:
    """Return a pod that ends by itself: the embedded cluster simulates it, a real one runs it."""
    body = pod(name, f"sleep {seconds}; exit {code}")
    body["metadata"] |= {
        "labels": {"suite": "outage"},
        "annotations": {"sim/run-for": f"{seconds}s", "sim/exit-code": str(code)},
    }
    return body


def _exit_code(view: View) -> int | None:
    statuses = (view.pod and view.pod.status.container_statuses) or []
    ended = [status.state.terminated for status in statuses if status.state and status.state.terminated]
    return ended[0].exit_code if ended else None


async def _verdict(subscription: Subscription) -> tuple[Presence, int | None]:
    while True:
        view = await subscription.next()
        if view.presence.final or _exit_code(view) is not None:
            return view.presence, _exit_code(view)


async def _verdicts(api: Api, kubeconfig: Path, outage: AbstractAsyncContextManager[None], seconds: float) -> list[int]:
    """Return the exit codes that subscribers get when the outage starts while all pods run."""
    async with connect(ClusterSource(config_file=str(kubeconfig))) as client, _following(api, client) as subscriptions:
        verdicts = [asyncio.ensure_future(_verdict(subscription)) for subscription in subscriptions]
        async with outage:
            await asyncio.sleep(seconds)
        results = await asyncio.wait_for(asyncio.gather(*verdicts), 180)
    assert {presence for presence, _ in results} == {Presence.PRESENT}
    return [code if code is not None else -1 for _, code in results]


@asynccontextmanager
async def _following(api: Api, client: Client) -> AsyncIterator[list[Subscription]]:
    async with AsyncExitStack() as stack:
        subscriptions = []
        for number in range(PODS):
            metadata = (await api.run(_finishing(f"pod-{number}", 8 + number, number)))["metadata"]
            subscription = await stack.enter_async_context(
                follow(client, api.namespace, metadata["name"], metadata["uid"], selector=SELECTOR)
            )
            while (view := await subscription.next()).pod is None or view.pod.status.phase != "Running":
                pass
            subscriptions.append(subscription)
        yield subscriptions


async def test_exit_codes_of_pods_that_end_while_the_api_server_is_dead_are_known(
    api: Api, kubeconfig: Path, outages: Outages
) -> None:
    assert await _verdicts(api, kubeconfig, outages.killed(), 20) == list(range(PODS))


async def test_exit_codes_of_pods_that_end_while_the_api_server_is_frozen_are_known(
    api: Api, kubeconfig: Path, outages: Outages
) -> None:
    assert await _verdicts(api, kubeconfig, outages.frozen(), FROZEN_SECONDS) == list(range(PODS))


async def test_a_watch_ends_with_the_api_server_and_a_new_one_starts_after_its_return(
    api: Api, outages: Outages
) -> None:
    async with api.watch() as watch, outages.killed():
        # A killed server resets its connections; one that shuts down ends its watches.
        with suppress(aiohttp.ClientError):
            await watch.rest(60)
    async with api.watch(timeoutSeconds="1") as again:
        assert [event.type for event in await again.rest()] == []
