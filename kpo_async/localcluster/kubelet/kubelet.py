"""The node: takes the pods that are bound to it and gives each a worker; answers for logs and exec.

Every container is a process of the user that runs the cluster. Not done: users (`runAsUser`), resource limits (hence no
OOMKilled), networks of their own, ephemeral containers, refreshing mounted config maps.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from kpo_async.localcluster.kubelet import env, podlogs
from kpo_async.localcluster.kubelet.execsession import start_exec
from kpo_async.localcluster.kubelet.podworker import Node, PodWorker
from kpo_async.localcluster.kubelet.settings import KubeletSettings
from kpo_async.localcluster.kubelet.simulated import Simulator, is_simulated
from kpo_async.localcluster.kubelet.volumes import TokenIssuer
from kpo_async.localcluster.node import BadExecRequest, ExecSession, LogOptions
from kpo_async.localcluster.runtime.runtime import Isolation, Runtime, RuntimeLost, open_runtime
from kpo_async.localcluster.store.store import Change, EventType, Object, Store

_ENDED = ("Succeeded", "Failed")
_FILES = 65536


def allow_many_files() -> None:
    """Raise this process's soft limit of open files: a container takes two, and 1,024 in all is a common limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class LocalKubelet:
    """Runs the pods of one node as local processes (`node.Kubelet`)."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        *,
        settings: KubeletSettings | None = None,
        isolation: Isolation | None = None,
        api_server: tuple[str, int] | None = None,
        issue_token: TokenIssuer | None = None,
    ) -> None:
        """Containers keep their files in `directory`, which need not exist. `isolation` None takes the best that works.

        `api_server` goes to KUBERNETES_SERVICE_HOST and _PORT of every container.
        """
        self.store = store
        self._directory = directory
        self.settings = settings or KubeletSettings()
        self.started = asyncio.Event()
        """Set once containers can be started."""
        self._isolation = isolation
        self._issue_token = issue_token
        self._cluster_env: env.Values = {}
        if api_server is not None:
            host, port = api_server
            self._cluster_env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[asyncio.Task[None], PodWorker] = {}
        self._failed: asyncio.Future[None] | None = None
        self._simulator = Simulator(store)
        self.runtime: Runtime | None = None

    async def run(self) -> None:
        """Work until cancelled; then kill every process, and return after the last is gone.

        Raises RuntimeLost if containers cannot be run any more.
        """
        allow_many_files()
        runtime = self.runtime = await open_runtime(self._directory, self._isolation)
        node = Node(self.store, runtime, self.settings, self._directory, self._cluster_env, self._issue_token)
        try:
            await self._work(node, runtime)
        finally:
            await self._shut_down(runtime)
            shutil.rmtree(self._directory / "pods", ignore_errors=True)

    async def _work(self, node: Node, runtime: Runtime) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        runtime.lost.add_done_callback(self._runtime_lost)
        followers = [
            asyncio.create_task(self._follow_pods(node), name="kubelet"),
            *(
                asyncio.create_task(self._follow_config(node, name), name=f"kubelet's {name}")
                for name in ("configmaps", "secrets", "serviceaccounts")
            ),
        ]
        self.started.set()
        try:
            await asyncio.wait([*followers, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for future in (self._failed, *followers):
                if future.done():
                    future.result()
        finally:
            for task in followers:
                task.cancel()
            await asyncio.gather(*followers, return_exceptions=True)

    def _runtime_lost(self, lost: asyncio.Future[None]) -> None:
        if not lost.cancelled():
            self._fail(RuntimeLost("the launcher of containers has ended"))

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _follow_pods(self, node: Node) -> None:
        subscription = self.store.subscribe("pods")
        try:
            for pod in self.store.list("pods"):
                self._pod_seen(node, pod)
            while changes := await subscription.batch():
                for change in changes:
                    self._pod_changed(node, change)
        finally:
            subscription.close()

    def _pod_changed(self, node: Node, change: Change) -> None:
        if change.type is not EventType.DELETED:
            self._pod_seen(node, change.object)
            return
        uid = change.object["metadata"]["uid"]
        self._simulator.removed(uid)
        worker = self._workers.pop(uid, None)
        if worker is not None:
            worker.kill()
            if worker.finished:
                worker.forget()

    def _pod_seen(self, node: Node, pod: Object) -> None:
        if pod["spec"].get("nodeName") != self.settings.node_name:
            return
        if is_simulated(pod):
            self._simulator.seen(pod)
            return
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is None:
            if (pod.get("status") or {}).get("phase") in _ENDED:
                return
            worker = self._workers[uid] = PodWorker(node, pod)
            task = asyncio.create_task(worker.run(), name=f"pod {pod['metadata']['name']}")
            self._tasks[task] = worker
            task.add_done_callback(self._worker_ended)
        worker.update(pod)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        worker = self._tasks.pop(task)
        if worker.pod["metadata"]["uid"] not in self._workers:
            worker.forget()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    async def _follow_config(self, node: Node, name: str) -> None:
        subscription = self.store.subscribe(name)
        try:
            while await subscription.batch():
                node.config_changed()
        finally:
            subscription.close()

    async def _shut_down(self, runtime: Runtime) -> None:
        self._simulator.close()
        runtime.lost.remove_done_callback(self._runtime_lost)
        for worker in self._workers.values():
            worker.kill()
        await runtime.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers.values():
            worker.forget()
        self._workers.clear()
        if self._failed is not None and not self._failed.done():
            self._failed.cancel()

    def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's log (`node.Kubelet.log`). Its first step raises BadLogRequest where a kubelet would refuse."""
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
