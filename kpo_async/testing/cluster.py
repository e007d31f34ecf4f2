"""A cluster for tests: the embedded one in a thread of this process, or the one of a kubeconfig."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client
from kpo_async.localcluster import LocalCluster
from kpo_async.localcluster.api.faults import Faults

T = TypeVar("T")


class Cluster:
    """A cluster with a namespace for the tests."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kubeconfig: Path,
        namespace: str,
        client: Client,
        embedded: LocalCluster | None,
    ) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self._loop = loop
        self._client = client
        self._embedded = embedded

    @property
    def connection(self) -> str:
        """Airflow's connection to it, for an environment variable `AIRFLOW_CONN_...`."""
        extra = {"kube_config_path": str(self.kubeconfig), "namespace": self.namespace}
        return json.dumps({"conn_type": "kubernetes", "extra": extra})

    @property
    def faults(self) -> Faults:
        """What makes the API server misbehave. Raises `TypeError` for a real cluster."""
        if self._embedded is None:
            raise TypeError("a real cluster has no faults: leave --kpo-kubeconfig out, or skip this test with it")
        return cast(Faults, _InLoop(self._embedded.faults, self._loop))

    def pods(self) -> list[Json]:
        """Return the pods that are in the namespace now."""
        found = asyncio.run_coroutine_threadsafe(self._client.list("pods", self.namespace), self._loop).result()
        return list(found["items"])


@contextlib.contextmanager
def cluster(kubeconfig: Path | None) -> Iterator[Cluster]:
    """Open the cluster of a kubeconfig, or start the embedded one. The namespace is deleted at the end."""
    with _loop_in_a_thread() as loop, _in_loop(_open(kubeconfig), loop) as opened:
        yield opened


@contextlib.asynccontextmanager
async def _open(kubeconfig: Path | None) -> AsyncIterator[Cluster]:
    async with contextlib.AsyncExitStack() as stack:
        embedded = None if kubeconfig else await stack.enter_async_context(LocalCluster())
        path = (kubeconfig or cast(LocalCluster, embedded).kubeconfig).resolve()
        client = await stack.enter_async_context(Client(await load(ClusterSource(config_file=str(path)))))
        namespace = f"kpo-async-test-{secrets.token_hex(4)}"
        await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        stack.push_async_callback(client.delete, "namespaces", namespace)
        yield Cluster(asyncio.get_running_loop(), path, namespace, client, embedded)


class _InLoop:
    """An object whose functions run in the event loop of another thread."""

    def __init__(self, target: object, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._target, name)

        def call(*arguments: Any, **options: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(_call(function, arguments, options), self._loop).result()

        def call_or_enter(*arguments: Any, **options: Any) -> Any:
            found = call(*arguments, **options)
            return _in_loop(found, self._loop) if isinstance(found, AbstractAsyncContextManager) else found

        return call_or_enter


async def _call(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    found = function(*arguments, **options)
    return await found if inspect.isawaitable(found) else found


@contextlib.contextmanager
def _in_loop(opening: AbstractAsyncContextManager[T], loop: asyncio.AbstractEventLoop) -> Iterator[T]:
    """Enter and leave an asynchronous context manager in the loop of another thread."""

    def wait(awaited: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(awaited, loop).result()

    opened = wait(_entered(opening))
    try:
        yield opened
    finally:
        wait(_left(opening))


async def _entered(opening: AbstractAsyncContextManager[T]) -> T:
    return await opening.__aenter__()


async def _left(opening: AbstractAsyncContextManager[Any]) -> None:
    await opening.__aexit__(None, None, None)


@contextlib.contextmanager
def _loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kpo-async test cluster", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
