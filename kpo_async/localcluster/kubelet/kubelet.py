"""The kubelet: runs a worker for each pod that is bound to its node, and serves logs and exec.

Every container is a process of the user that runs the cluster. Not implemented: users (`runAsUser`), resource limits
(hence no OOMKilled), network isolation, ephemeral containers, refreshing of mounted config maps.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from kpo_async.localcluster.client import InProcessClient, WatchEvent, WatchEventType
from kpo_async.localcluster.kubelet import env, podlogs
from kpo_async.localcluster.kubelet.exec_session import start_exec
from kpo_async.localcluster.kubelet.podworker import NodeContext, PodWorker
from kpo_async.localcluster.kubelet.settings import KubeletSettings
from kpo_async.localcluster.kubelet.simulated import Simulator, is_simulated
from kpo_async.localcluster.node import BadExecRequest, ExecSession, LogOptions
from kpo_async.localcluster.runtime.runtime import Isolation, Runtime, RuntimeLost, open_runtime
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object, has_ended

_FILES = 65536


def allow_many_files() -> None:
    """Raise this process's soft limit of open files: a container needs two, and a common limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class LocalKubelet:
    """Runs the pods of one node as local processes (`node.Kubelet`)."""

    def __init__(
        self,
        client: InProcessClient,
        directory: Path,
        *,
        settings: KubeletSettings | None = None,
        isolation: Isolation | None = None,
        api_server: tuple[str, int] | None = None,
        clock: Callable[[], int] = times.now,
    ) -> None:
        """Containers keep their files in `directory`, which need not exist. `isolation` None takes the best that works.

        `api_server` becomes KUBERNETES_SERVICE_HOST and _PORT of every container. `clock` returns nanoseconds since the
        epoch.
        """
        self._client = client
        self._clock = clock
        self._directory = directory
        self.settings = settings or KubeletSettings()
        self.started = asyncio.Event()
        """Set once containers can be started."""
        self._isolation = isolation
        self._cluster_env: env.Values = {}
        if api_server is not None:
            host, port = api_server
            self._cluster_env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[asyncio.Task[None], PodWorker] = {}
        self._failed: asyncio.Future[None] | None = None
        self._simulator = Simulator(client, clock)
        self.runtime: Runtime | None = None

    async def run(self) -> None:
        """Work until cancelled; then kill every process, and return when the last one has ended.

        Raises RuntimeLost if the container runtime ends.
        """
        allow_many_files()
        runtime = self.runtime = await open_runtime(self._directory, self._isolation)
        node = NodeContext(self._client, self._clock, runtime, self.settings, self._directory, self._cluster_env)
        try:
            await self._work(node, runtime)
        finally:
            await self._shut_down(runtime)
            shutil.rmtree(self._directory / "pods", ignore_errors=True)

    async def _work(self, node: NodeContext, runtime: Runtime) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        runtime.lost.add_done_callback(self._runtime_lost)
        watches = [
            asyncio.create_task(self._watch_pods(node), name="kubelet's pods"),
            *(
                asyncio.create_task(self._watch_config(node, name), name=f"kubelet's {name}")
                for name in ("configmaps", "secrets", "serviceaccounts")
            ),
        ]
        self.started.set()
        try:
            await asyncio.wait([*watches, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for future in (self._failed, *watches):
                if future.done():
                    future.result()
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    def _runtime_lost(self, lost: asyncio.Future[None]) -> None:
        if not lost.cancelled():
            self._fail(RuntimeLost("the launcher of containers has ended"))

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _watch_pods(self, node: NodeContext) -> None:
        async for event in self._client.watch("pods", f"spec.nodeName={self.settings.node_name}"):
            self._pod_changed(node, event)

    def _pod_changed(self, node: NodeContext, event: WatchEvent) -> None:
        if event.type is not WatchEventType.DELETED:
            self._update_pod(node, event.object)
            return
        uid = event.object["metadata"]["uid"]
        self._simulator.remove(uid)
        worker = self._workers.pop(uid, None)
        if worker is not None:
            worker.kill()
            if worker.finished:
                worker.delete_files()

    def _update_pod(self, node: NodeContext, pod: Object) -> None:
        if is_simulated(pod):
            self._simulator.update(pod)
            return
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is None:
            if has_ended(pod):
                return
            worker = self._workers[uid] = PodWorker(node, pod)
            task = asyncio.create_task(worker.run(), name=f"pod {pod['metadata']['name']}")
            self._tasks[task] = worker
            task.add_done_callback(self._worker_ended)
        worker.update(pod)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        worker = self._tasks.pop(task)
        if worker.pod["metadata"]["uid"] not in self._workers:
            worker.delete_files()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _watch_config(self, node: NodeContext, resource: str) -> None:
        async for _ in self._client.watch(resource):
            node.config_changed()

    async def _shut_down(self, runtime: Runtime) -> None:
        self._simulator.close()
        runtime.lost.remove_done_callback(self._runtime_lost)
        for worker in self._workers.values():
            worker.kill()
        await runtime.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.delete_files()
        self._workers.clear()
        if self._failed is not None and not self._failed.done():
            self._failed.cancel()

    def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield a container's log (`node.Kubelet.log`). The first step raises BadLogRequest."""
        if is_simulated(pod):
            return self._simulator.log(pod, options)
        return podlogs.read(self._workers.get(pod["metadata"]["uid"]), pod, options)

    async def exec(self, pod: Object, container: str, command: list[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Start a command in a running container (`node.Kubelet.exec`). Raises BadExecRequest."""
        worker = self._workers.get(pod["metadata"]["uid"])
        found = worker.container(container) if worker else None
        if found is None or not found.running or self.runtime is None:
            raise BadExecRequest(f'container not found ("{container}")')
        return await start_exec(self.runtime, found, command, stdin=stdin, tty=tty)
