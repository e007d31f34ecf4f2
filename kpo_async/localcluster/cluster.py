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
from kpo_async.localcluster.api import resources
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.identity import MASTERS, Authenticator, Identity
from kpo_async.localcluster.api.listener import HOST, Listener
from kpo_async.localcluster.api.metrics import Metrics
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.api.server import ApiServer
from kpo_async.localcluster.certificate import Certificate
from kpo_async.localcluster.controllers.controllers import Controllers
from kpo_async.localcluster.kubelet import node_object
from kpo_async.localcluster.kubelet.kubelet import LocalKubelet
from kpo_async.localcluster.node import Kubelet
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Store

_log = logging.getLogger(__name__)


class LocalCluster:
    """An API server with one node whose pods are processes of this machine.

    Everything ends with the context: connections, containers, files (unless `directory` was given).
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
        """`kubelet` makes the node's kubelet; `clock` tells nanoseconds since the epoch.

        Without TLS clients need no token, because kubectl sends none over plain HTTP.
        """
        self._wanted_port = port
        self._directory = directory
        self._kubeconfig_path = kubeconfig_path
        self._tls = tls
        self._make_kubelet = kubelet or _local_kubelet
        self._stack = AsyncExitStack()
        self.store = Store(clock=clock)
        self.registry = Registry(self.store)
        self.authenticator = Authenticator(self.store)
        self.faults = Faults(self)

    async def __aenter__(self) -> LocalCluster:
        async with AsyncExitStack() as stack:
            self.directory = self._directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-")))
            self._certificate = await asyncio.to_thread(self._prepare_files)
            controllers = Controllers(self.registry, self._certificate.text if self._certificate else "")
            controllers.start()
            self.registry.create(Target(resources.BY_NAME["nodes"]), node_object.describe())
            # A real server's watch cache begins after its first list: nothing resumes from before.
            self.store.compact()
            tls = self._certificate.context() if self._certificate else None
            if tls is None:
                self.authenticator.anonymous = Identity("system:anonymous", (MASTERS, "system:authenticated"))
            self.listener = Listener(self._handle, self._wanted_port, tls)
            stack.push_async_callback(self.listener.close)
            self.listener.reserve()
            self.kubelet = self._make_kubelet(self)
            self.server = ApiServer(self.registry, self.kubelet, self.authenticator, self.faults)
            self.token = self.authenticator.add_user("kubernetes-admin", MASTERS)
            await asyncio.to_thread(self.write_kubeconfig, self.kubeconfig, self.token)
            await self._start(stack, "controllers", controllers.run())
            await self._start(stack, "kubelet", self.kubelet.run(), self.kubelet.started)
            await self.listener.open()
            stack.push_async_callback(self._stop_serving)
            self._stack = stack.pop_all()
        return self

    async def _start(
        self, stack: AsyncExitStack, name: str, work: Coroutine[Any, Any, None], ready: asyncio.Event | None = None
    ) -> None:
        """Run a part of the cluster until the context ends. Raises what it raises before it is ready."""
        task = asyncio.create_task(work, name=f"localcluster {name}")
        task.add_done_callback(_report_death)
        stack.push_async_callback(_end, task)
        if ready is not None:
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                task.result()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.server.handle(request)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _prepare_files(self) -> Certificate | None:
        self.directory.mkdir(parents=True, exist_ok=True)
        return certificate.create(self.directory) if self._tls else None

    async def _stop_serving(self) -> None:
        self.faults.clear()
        self.server.end_watches()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self._kubeconfig_path or self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return self.listener.url

    @property
    def requests(self) -> Metrics:
        """What has been asked so far."""
        return self.server.metrics

    def write_kubeconfig(self, path: Path, token: str, namespace: str = "default") -> Path:
        """A kubeconfig for another user, with a token of `authenticator.add_user` or of a service account."""
        authority = self._certificate.certificate if self._certificate else None
        kubeconfig.write(path, kubeconfig.document(self.url, token, authority, namespace))
        return path

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None:
        """Restart the API server: connections are cut, and refused for `down` seconds.

        Without its history, watches that resume from before are told that their version has expired.
        """
        self.server.end_watches()
        async with self.down():
            if not keep_history:
                self.store.compact()
            await asyncio.sleep(down)

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """The API server is not there: connections are reset, and new ones refused."""
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
        """Tell every open watch that its version has expired."""
        self.server.expire_watches()


def _local_kubelet(cluster: LocalCluster) -> Kubelet:
    return LocalKubelet(
        cluster.store,
        cluster.directory / "kubelet",
        api_server=(HOST, cluster.listener.port),
        issue_token=cluster.authenticator.issue,
    )


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended with an error", task.get_name(), exc_info=error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
