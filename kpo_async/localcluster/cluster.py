"""The embedded cluster as one object: `async with LocalCluster() as cluster: ... cluster.kubeconfig ...`."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from kpo_async.localcluster import certificate, kubeconfig, node_object, resources, times
from kpo_async.localcluster.controllers import Controllers
from kpo_async.localcluster.faults import Faults
from kpo_async.localcluster.identity import MASTERS, Authenticator
from kpo_async.localcluster.listener import Listener
from kpo_async.localcluster.metrics import Metrics
from kpo_async.localcluster.node import Kubelet
from kpo_async.localcluster.registry import Registry, Target
from kpo_async.localcluster.server import ApiServer
from kpo_async.localcluster.store import Store

_log = logging.getLogger(__name__)

KubeletFactory = Callable[[Store, Path], Kubelet]
"""Makes the kubelet of a cluster from its store and a directory of its own."""


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
        kubelet: KubeletFactory | None = None,
        clock: Callable[[], int] = times.now,
    ) -> None:
        """`tls` is used where the `openssl` program is; `clock` tells nanoseconds since the epoch."""
        self._wanted_port = port
        self._directory = directory
        self._kubeconfig_path = kubeconfig_path
        self._tls = tls
        self._make_kubelet = kubelet or _default_kubelet
        self._stack = AsyncExitStack()
        self.store = Store(clock=clock)
        self.registry = Registry(self.store)
        self.authenticator = Authenticator(self.store)

    async def __aenter__(self) -> LocalCluster:
        async with AsyncExitStack() as stack:
            self.directory = self._directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-")))
            await asyncio.to_thread(self._prepare_files)
            made = await asyncio.to_thread(certificate.create, self.directory) if self._tls else None
            self._certificate = made.certificate if made else None
            controllers = Controllers(self.registry, made.certificate.read_text() if made else "")
            controllers.start()
            self.registry.create(Target(resources.BY_NAME["nodes"]), node_object.describe())
            # A real server's watch cache begins after its first list: nothing resumes from before.
            self.store.compact()
            self.kubelet = self._make_kubelet(self.store, self.directory / "kubelet")
            self.faults = Faults(self)
            self.server = ApiServer(self.registry, self.kubelet, self.authenticator, self.faults)
            self.listener = Listener(self.server.handle, self._wanted_port, made.context() if made else None)
            stack.push_async_callback(self._stop_serving)
            await self.listener.open()
            self.token = self.authenticator.add_user("kubernetes-admin", MASTERS)
            self.kubeconfig = self._kubeconfig_path or self.directory / "kubeconfig"
            await asyncio.to_thread(self.write_kubeconfig, self.kubeconfig, self.token)
            for name, work in (("controllers", controllers.run()), ("kubelet", self.kubelet.run())):
                task = asyncio.create_task(work, name=f"localcluster {name}")
                task.add_done_callback(_report_death)
                stack.push_async_callback(_end, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _prepare_files(self) -> None:
        (self.directory / "kubelet").mkdir(parents=True, exist_ok=True)

    async def _stop_serving(self) -> None:
        self.faults.clear()
        self.server.end_watches()
        await self.listener.close()

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
        kubeconfig.write(path, kubeconfig.document(self.url, token, self._certificate, namespace))
        return path

    async def restart(self, *, keep_history: bool = True, down: float = 0.0) -> None:
        """Restart the API server: connections are cut, and refused for `down` seconds.

        Without its history, watches that resume from before are told that their version has expired.
        """
        self.server.end_watches()
        await self.listener.refuse()
        self.listener.cut()
        if not keep_history:
            self.store.compact()
        if down:
            await asyncio.sleep(down)
        await self.listener.open()


def _default_kubelet(store: Store, directory: Path) -> Kubelet:
    from kpo_async.localcluster.kubelet import LocalKubelet

    return LocalKubelet(store, directory)


def _report_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s ended with an error", task.get_name(), exc_info=error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))
