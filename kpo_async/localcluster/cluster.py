"""The embedded cluster as one object: `async with LocalCluster() as cluster: ... cluster.kubeconfig ...`."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from kpo_async.localcluster import certificate, kubeconfig
from kpo_async.localcluster.api.authentication import MASTERS, TokenAuthenticator, UserInfo
from kpo_async.localcluster.api.authorization import Authorizer
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.listener import HOST, Listener
from kpo_async.localcluster.api.metrics import Metrics
from kpo_async.localcluster.api.registry import Registry
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.api.server import ApiServer
from kpo_async.localcluster.certificate import Certificate
from kpo_async.localcluster.client import InProcessClient
from kpo_async.localcluster.controllers.controllers import Controllers
from kpo_async.localcluster.controllers.scheduler import Scheduler
from kpo_async.localcluster.kubelet import node_object
from kpo_async.localcluster.kubelet.kubelet import LocalKubelet
from kpo_async.localcluster.node import Kubelet
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Store

_log = logging.getLogger(__name__)


class LocalCluster:
    """An API server with one node whose pods are processes of this machine.

    Connections, containers and files (unless `directory` was given) end with the context.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        directory: Path | None = None,
        kubeconfig_path: Path | None = None,
        tls: bool = True,
        kubelet: Callable[[LocalCluster], Kubelet] | None = None,
        clock: Callable[[], int] = times.now,
    ) -> None:
        """`kubelet` creates the node's kubelet; `clock` returns nanoseconds since the epoch.

        Without TLS, clients need no token, because kubectl sends none over plain HTTP.
        """
        self._port = port
        self._directory = directory
        self._kubeconfig_path = kubeconfig_path
        self._tls = tls
        self._create_kubelet = kubelet or _local_kubelet
        self._stack = AsyncExitStack()
        self.store = Store(clock=clock)
        self.authenticator = TokenAuthenticator(self.store)
        self.faults = Faults(self)
        self._registry = Registry(self.store)
        self._reviews = Reviews(self._registry, self.authenticator, Authorizer(self.store))
        self.client = InProcessClient(self._registry, self._reviews)

    async def __aenter__(self) -> LocalCluster:
        async with AsyncExitStack() as stack:
            self.directory = self._directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-")))
            self._certificate = await asyncio.to_thread(self._prepare_files)
            controllers = Controllers(self.client, self._certificate.text if self._certificate else "")
            controllers.create_namespaces()
            self.client.create("nodes", node_object.describe())
            # A real server's watch cache starts with its first list: no watch resumes from before that.
            self.store.compact()
            await self._prepare_server(stack)
            await self._start(stack, "controllers", controllers.run())
            await self._start(stack, "scheduler", Scheduler(self.client, self.store.clock).run())
            await self._start(stack, "kubelet", self.kubelet.run(), self.kubelet.started)
            await self.listener.open()
            stack.push_async_callback(self._stop_serving)
            # Last: who waits for this file may connect.
            await asyncio.to_thread(self.write_kubeconfig, self.kubeconfig, self.token)
            self._stack = stack.pop_all()
        return self

    def _prepare_files(self) -> Certificate | None:
        self.directory.mkdir(parents=True, exist_ok=True)
        return certificate.create(self.directory) if self._tls else None

    async def _prepare_server(self, stack: AsyncExitStack) -> None:
        """Create the server on its port, and the administrator's token; nothing is served yet."""
        tls = self._certificate.context() if self._certificate else None
        if tls is None:
            self.authenticator.anonymous = UserInfo("system:anonymous", (MASTERS, "system:authenticated"))
        self.listener = Listener(self._handle, self._port, tls)
        stack.push_async_callback(self.listener.close)
        self.listener.reserve()
        self.kubelet = self._create_kubelet(self)
        self.server = ApiServer(self._registry, self._reviews, self.kubelet, self.authenticator, self.faults)
        self.token = self.authenticator.add_user("kubernetes-admin", MASTERS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.server.handle(request)

    async def _start(
        self, stack: AsyncExitStack, name: str, work: Coroutine[Any, Any, None], ready: asyncio.Event | None = None
    ) -> None:
        """Run a part of the cluster until the context ends. Raises what it raises before it is ready."""
        task = asyncio.create_task(work, name=f"localcluster {name}")
        task.add_done_callback(_log_failure)
        stack.push_async_callback(_cancel, task)
        if ready is not None:
            waiting = asyncio.create_task(ready.wait(), name=f"localcluster {name} is ready")
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                task.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _stop_serving(self) -> None:
        self.faults.clear()
        self.server.end_watches()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._kubeconfig_path or self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        """The API server's address."""
        return self.listener.url

    @property
    def requests(self) -> Metrics:
        """Counters of the requests to the API server."""
        return self.server.metrics

    def write_kubeconfig(self, path: Path, token: str, namespace: str = "default") -> Path:
        """Write a kubeconfig for another user, with a token of `authenticator.add_user` or of a service account."""
        authority = self._certificate.certificate if self._certificate else None
        kubeconfig.write(path, kubeconfig.document(self.url, token, authority, namespace))
        return path

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None:
        """Restart the API server: connections are reset, and refused for `down` seconds.

        Without its history, watches that resume from an earlier version get 410.
        """
        self.server.end_watches()
        async with self.down():
            if not keep_history:
                self.store.compact()
            await asyncio.sleep(down)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Take the API server away: open connections are reset, new ones refused."""
        await self.listener.refuse()
        self.listener.cut()
        try:
            yield
        finally:
            await self.listener.open()

    def cut_connections(self) -> None:
        """Reset every open connection."""
        self.listener.cut()

    def expire_watches(self) -> None:
        """End every open watch with the ERROR that its version has expired."""
        self.server.expire_watches()


def _local_kubelet(cluster: LocalCluster) -> Kubelet:
    return LocalKubelet(
        cluster.client,
        cluster.directory / "kubelet",
        api_server=(HOST, cluster.listener.port),
        clock=cluster.store.clock,
    )


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended with an error", task.get_name(), exc_info=error)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
