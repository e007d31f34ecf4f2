"""The life of one pod: volumes, init containers in order, sidecars, main containers, restarts, and the end.

Read it from top to bottom. The worker keeps what happens in a `PodRecord` and writes the pod's status from it, at most
once per turn of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kpo_async.localcluster.client import InProcessClient
from kpo_async.localcluster.events import EventRecorder
from kpo_async.localcluster.kubelet import env, handlers, podstatus
from kpo_async.localcluster.kubelet.containers import ContainerWorker
from kpo_async.localcluster.kubelet.grace import Grace
from kpo_async.localcluster.kubelet.podstatus import ContainerType, PodRecord, StopReason, Terminated
from kpo_async.localcluster.kubelet.settings import KubeletSettings
from kpo_async.localcluster.kubelet.status_writer import PodStatusWriter
from kpo_async.localcluster.kubelet.volumes import MountFailed, Volumes
from kpo_async.localcluster.runtime.runtime import Isolation, Mount, Runtime
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object, is_deleting

_DEFAULT_GRACE = 30


class NodeContext:
    """What all pods of a node share."""

    def __init__(
        self,
        client: InProcessClient,
        clock: Callable[[], int],
        runtime: Runtime,
        settings: KubeletSettings,
        directory: Path,
        cluster_env: env.Values,
    ) -> None:
        self.client = client
        self.clock = clock
        self.runtime = runtime
        self.settings = settings
        self.directory = directory
        self.cluster_env = cluster_env
        self._waiting: list[asyncio.Future[None]] = []

    def config_changed(self) -> None:
        """Wake the pods that wait for a config map, a secret or a service account."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def config_change(self) -> None:
        """Wait for the next change, or until the next try is due."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(future, self.settings.mount_delay)


class PodWorker:
    """Runs one pod to its end. `run` is its task; `update` and `kill` may be called at any time."""

    def __init__(self, node: NodeContext, pod: Object) -> None:
        metadata = pod["metadata"]
        self.pod = pod
        self.client, self.clock = node.client, node.clock
        self.runtime, self.settings = node.runtime, node.settings
        self.directory = node.directory / "pods" / metadata["uid"]
        self.finished = False
        self._node = node
        self._events = EventRecorder(node.client, node.clock)
        self._status = PodStatusWriter(node.client, node.clock, pod)
        claims = node.directory / "claims"
        self._volumes = Volumes(node.client, self.directory / "volumes", claims)
        self._tmp = self.directory / "tmp"
        self.cluster_env = dict(node.cluster_env)
        if node.runtime.isolation is Isolation.PLAIN:
            self.cluster_env |= {"HOME": str(self._tmp), "TMPDIR": str(self._tmp)}
        self.containers = [ContainerWorker(self, spec, role) for spec, role in podstatus.containers_of(pod)]
        self.record = PodRecord([container.record for container in self.containers], node.clock())
        self._stopping = asyncio.Event()
        self._grace_seconds = float(pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE))
        self._grace: Grace | None = None
        self._gone = False
        self._write_planned = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None
        self._accepted_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # Its life

    async def run(self) -> None:
        """Run the pod, from its first status to its last. Returns when all its processes have ended."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        self._tmp.chmod(0o777)
        self.changed()
        self._accepted_at = asyncio.get_running_loop().time()
        self._arm_deadline()
        life = asyncio.create_task(self._live(), name=f"containers of {self._name}")
        stopping = asyncio.create_task(self._stopping.wait(), name=f"stop of {self._name}")
        try:
            await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            natural = life.done()
            await self._cancel({life, stopping})
            await self._stop_containers()
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            await self._cancel({life, stopping, *self._tasks})
        if self._failure is not None:
            raise self._failure
        self._finish(natural=natural)

    async def _live(self) -> None:
        """Run the containers, up to the end of the last main container."""
        await self._mount_volumes()
        for container in self.containers:
            if container.record.type is ContainerType.SIDECAR:
                await self._start_sidecar(container)
            elif container.record.type is ContainerType.INIT and not await self._initialize(container):
                return
        main = [container for container in self.containers if container.record.type is ContainerType.MAIN]
        await asyncio.gather(*(self._supervise(container) for container in main))

    async def _mount_volumes(self) -> None:
        while True:
            try:
                self._volumes.prepare(self.pod)
            except MountFailed as error:
                self.event("Warning", "FailedMount", str(error))
                await self._node.config_change()
            else:
                break
        self.record.sandbox = True
        self.changed()

    async def _initialize(self, container: ContainerWorker) -> bool:
        """Run an init container until it succeeds; return False if it fails for good."""
        end = await self._supervise(container)
        return end.exit_code == 0

    async def _start_sidecar(self, container: ContainerWorker) -> None:
        """Start a sidecar and keep it running; return when it has started."""
        started = asyncio.Event()
        self._spawn(self._supervise(container, started.set))
        await started.wait()

    async def _supervise(self, container: ContainerWorker, on_started: Callable[[], None] = lambda: None) -> Terminated:
        """Run a container, and restart it as its policy requires. Returns its last end."""
        delay, settings = 0.0, self.settings
        while True:
            await container.start()
            if container.record.started:
                on_started()
            probing = self._spawn(handlers.probe(container, on_started))
            end = await container.wait()
            await self._cancel({probing})
            if not self._restarts(container, end):
                return end
            if end.started_at and end.finished_at - end.started_at > settings.restart_reset * times.SECOND:
                delay = 0.0
            if delay:
                container.back_off(delay)
                await asyncio.sleep(delay)
            delay = min(delay * 2, settings.restart_delay_limit) if delay else settings.restart_delay

    def _restarts(self, container: ContainerWorker, end: Terminated) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        match container.record.type:
            case ContainerType.SIDECAR:
                return True
            case ContainerType.INIT:
                return end.exit_code != 0 and policy != "Never"
            case ContainerType.MAIN:
                return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)

    # The end

    def _arm_deadline(self) -> None:
        """Set the timer of activeDeadlineSeconds, which may be set or lowered while the pod runs."""
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None and self._accepted_at is not None and not self.finished:
            self._deadline = asyncio.get_running_loop().call_at(self._accepted_at + seconds, self._exceed_deadline)

    def _exceed_deadline(self) -> None:
        if self.record.stop_reason is StopReason.NONE and not self.finished:
            self.record.stop_reason = StopReason.DEADLINE
            self.event("Normal", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self.changed()
            self._stopping.set()

    async def _stop_containers(self) -> None:
        """Stop the main containers together, then the sidecars one by one, last first."""
        grace = self._grace = Grace(self._grace_seconds)
        try:
            sidecars = [c for c in self.containers if c.record.type is ContainerType.SIDECAR]
            others = [c for c in self.containers if c.record.type is not ContainerType.SIDECAR]
            await asyncio.gather(*(container.stop(grace) for container in others))
            await self._cancel(self._tasks)  # No sidecar is restarted any more.
            for sidecar in reversed(sidecars):
                least = grace.at_least(0.0 if self._gone else self.settings.sidecar_grace)
                await sidecar.stop(least)
                least.cancel()
        finally:
            grace.cancel()

    def _finish(self, *, natural: bool) -> None:
        if natural and self.record.stop_reason is StopReason.NONE:
            self._write()  # A real kubelet writes the last container's end first, and then the pod's.
        self.record.finished = self.finished = True
        self._write()
        self._volumes.remove()
        shutil.rmtree(self._tmp, ignore_errors=True)
        if not self._gone:
            self._status.confirm_deletion()

    # From outside

    def update(self, pod: Object) -> None:
        """Take over a change of the pod."""
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        self.pod = pod
        if pod["spec"].get("activeDeadlineSeconds") != deadline:
            self._arm_deadline()
        if is_deleting(pod):
            seconds = pod["metadata"].get("deletionGracePeriodSeconds")
            self._stop(_DEFAULT_GRACE if seconds is None else seconds)

    def kill(self) -> None:
        """End everything at once: the pod has been removed, or the node shuts down."""
        self._gone = True
        self._stop(0)
        for container in self.containers:
            container.kill()

    def _stop(self, grace: float) -> None:
        self._grace_seconds = min(self._grace_seconds, grace) if self._stopping.is_set() else grace
        if self._grace is not None:
            self._grace.shorten(grace)
        if self.record.stop_reason is StopReason.NONE:
            self.record.stop_reason = StopReason.DELETED
        self._stopping.set()

    def delete_files(self) -> None:
        """Delete the pod's files on the host, including its logs."""
        for container in self.containers:
            container.delete_logs()
        shutil.rmtree(self.directory, ignore_errors=True)

    def container(self, name: str) -> ContainerWorker | None:
        """Return the container of that name."""
        return next((container for container in self.containers if container.record.name == name), None)

    # For the containers

    def changed(self) -> None:
        """Write the status soon: once for all changes in this turn of the loop."""
        if not self._write_planned and not self.finished:
            self._write_planned = True
            asyncio.get_running_loop().call_soon(self._write_planned_status)

    def _write_planned_status(self) -> None:
        self._write_planned = False
        if not self.finished:
            self._write()

    def _write(self) -> None:
        if not self._gone:
            self.pod = self._status.write(self.record) or self.pod

    def event(self, event_type: str, reason: str, message: str, field: str = "") -> None:
        """Record an event of the pod."""
        if not self._gone:
            self._events.record(self.pod, event_type, reason, message, field)

    def mounts(self, container: Object, values: env.Values) -> list[Mount]:
        """Return the mounts of a container's volumes, and of /tmp. Raises ContainerConfigError."""
        mounts = self._volumes.mounts(self.pod, container, values)
        if any(mount.target == "/tmp" for mount in mounts):
            return mounts
        return [Mount(str(self._tmp), "/tmp"), *mounts]

    async def config_change(self) -> None:
        """Wait until a config map or secret changes, or until the next try is due."""
        await self._node.config_change()

    @property
    def _name(self) -> str:
        return str(self.pod["metadata"]["name"])

    def _spawn(self, coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=f"part of pod {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            self._stopping.set()

    @staticmethod
    async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
        """Cancel tasks and wait for their end. Raises the failure of one."""
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
