"""The life of one pod: volumes, init containers in order, sidecars, main containers, restarts, and the end.

Reads top to bottom as the story. What happens is kept in a `PodRecord`; the status is written from it, once per turn of
the event loop at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kpo_async.localcluster.api import deletion
from kpo_async.localcluster.api.events import EventRecorder
from kpo_async.localcluster.kubelet import env, handlers, podstatus
from kpo_async.localcluster.kubelet.containers import Container
from kpo_async.localcluster.kubelet.grace import Grace
from kpo_async.localcluster.kubelet.podstatus import Ending, Kind, PodRecord, Terminated
from kpo_async.localcluster.kubelet.settings import KubeletSettings
from kpo_async.localcluster.kubelet.volumes import MountFailed, TokenIssuer, Volumes
from kpo_async.localcluster.runtime.runtime import Isolation, Mount, Runtime
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import NotFound, Object, Store

_DEFAULT_GRACE = 30


class Node:
    """What all pods of a node share."""

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        settings: KubeletSettings,
        directory: Path,
        cluster_env: env.Values,
        issue_token: TokenIssuer | None,
    ) -> None:
        self.store = store
        self.runtime = runtime
        self.settings = settings
        self.directory = directory
        self.cluster_env = cluster_env
        self.issue_token = issue_token
        self._waiting: list[asyncio.Future[None]] = []

    def config_changed(self) -> None:
        """Some config map, secret or service account has changed."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def config_change(self) -> None:
        """Wait for the next change."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(future, self.settings.mount_delay)


class PodWorker:
    """Runs one pod until its end. `run` is its task; `update` and `kill` may be called at any time."""

    def __init__(self, node: Node, pod: Object) -> None:
        metadata = pod["metadata"]
        self.pod = pod
        self.store, self.runtime, self.settings = node.store, node.runtime, node.settings
        self.directory = node.directory / "pods" / metadata["uid"]
        self.finished = False
        self._node = node
        self._events = EventRecorder(node.store)
        claims = node.directory / "claims"
        self._volumes = Volumes(node.store, self.directory / "volumes", claims, node.issue_token)
        self._tmp = self.directory / "tmp"
        self.cluster_env = dict(node.cluster_env)
        if node.runtime.isolation is Isolation.PLAIN:
            self.cluster_env |= {"HOME": str(self._tmp), "TMPDIR": str(self._tmp)}
        self.containers = list(self._make_containers())
        self.record = PodRecord([container.record for container in self.containers], node.store.clock())
        self._stopping = asyncio.Event()
        self._grace_seconds = float(pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE))
        self._grace: Grace | None = None
        self._gone = False
        self._write_planned = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None
        self._accepted_at: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def _make_containers(self) -> list[Container]:
        spec = self.pod["spec"]
        made = []
        for container in spec.get("initContainers") or ():
            kind = Kind.SIDECAR if container.get("restartPolicy") == "Always" else Kind.INIT
            made.append(Container(self, container, kind))
        return made + [Container(self, container, Kind.MAIN) for container in spec["containers"]]

    # The story

    async def run(self) -> None:
        """From the first status to the last. Returns when no process of the pod is left."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        self._tmp.chmod(0o777)
        self.changed()
        self._accepted_at = asyncio.get_running_loop().time()
        self._arm_deadline()
        life = asyncio.create_task(self._live())
        stopping = asyncio.create_task(self._stopping.wait())
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
        """Everything up to the end of the last main container."""
        await self._mount_volumes()
        for container in self.containers:
            if container.record.kind is Kind.SIDECAR:
                await self._start_sidecar(container)
            elif container.record.kind is Kind.INIT and not await self._initialize(container):
                return
        main = [container for container in self.containers if container.record.kind is Kind.MAIN]
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

    async def _initialize(self, container: Container) -> bool:
        """Run an init container to its success. False if it failed for good."""
        end = await self._supervise(container)
        return end.exit_code == 0

    async def _start_sidecar(self, container: Container) -> None:
        """Return when it has started; it is kept running from then on."""
        started = asyncio.Event()
        self._spawn(self._supervise(container, started.set))
        await started.wait()

    async def _supervise(self, container: Container, on_started: Callable[[], None] = lambda: None) -> Terminated:
        """Run a container, again and again if its restart policy says so. Returns its last end."""
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

    def _restarts(self, container: Container, end: Terminated) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        match container.record.kind:
            case Kind.SIDECAR:
                return True
            case Kind.INIT:
                return end.exit_code != 0 and policy != "Never"
            case Kind.MAIN:
                return policy == "Always" or (policy == "OnFailure" and end.exit_code != 0)

    # The end

    def _arm_deadline(self) -> None:
        """Set the timer for activeDeadlineSeconds, which may be set or lowered while the pod runs."""
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is not None and self._accepted_at is not None and not self.finished:
            self._deadline = asyncio.get_running_loop().call_at(self._accepted_at + seconds, self._exceed_deadline)

    def _exceed_deadline(self) -> None:
        if self.record.ending is Ending.NONE and not self.finished:
            self.record.ending = Ending.DEADLINE
            self.event("Normal", "DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
            self.changed()
            self._stopping.set()

    async def _stop_containers(self) -> None:
        """Main containers at once, then sidecars one by one, last first."""
        grace = self._grace = Grace(self._grace_seconds)
        try:
            sidecars = [c for c in self.containers if c.record.kind is Kind.SIDECAR]
            others = [c for c in self.containers if c.record.kind is not Kind.SIDECAR]
            await asyncio.gather(*(container.stop(grace) for container in others))
            await self._cancel(self._tasks)  # from here on, no sidecar is restarted
            for sidecar in reversed(sidecars):
                least = grace.at_least(0.0 if self._gone else self.settings.sidecar_grace)
                await sidecar.stop(least)
                least.end()
        finally:
            grace.end()

    def _finish(self, *, natural: bool) -> None:
        if natural and self.record.ending is Ending.NONE:
            self._write()  # a real kubelet shows the last container's end first, and the pod's end after that
        self.record.finished = self.finished = True
        self._write()
        self._volumes.remove()
        shutil.rmtree(self._tmp, ignore_errors=True)
        if not self._gone:
            self._remove_if_deleted()

    def _remove_if_deleted(self) -> None:
        current = self._current()
        if current is not None:
            metadata = current["metadata"]
            if metadata.get("deletionTimestamp"):
                deletion.finish(self.store, metadata["namespace"], metadata["name"])

    def _current(self) -> Object | None:
        """The pod as it is stored, None if that is gone or another one."""
        metadata = self.pod["metadata"]
        try:
            current = self.store.get("pods", metadata["namespace"], metadata["name"])
        except NotFound:
            return None
        return current if current["metadata"]["uid"] == metadata["uid"] else None

    # From outside

    def update(self, pod: Object) -> None:
        """The pod has changed."""
        deadline = self.pod["spec"].get("activeDeadlineSeconds")
        self.pod = pod
        if pod["spec"].get("activeDeadlineSeconds") != deadline:
            self._arm_deadline()
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp"):
            seconds = metadata.get("deletionGracePeriodSeconds")
            self._stop(_DEFAULT_GRACE if seconds is None else seconds)

    def kill(self) -> None:
        """The pod is no longer in the store, or the node goes down: everything ends at once."""
        self._gone = True
        self._stop(0)
        for container in self.containers:
            container.kill()

    def _stop(self, grace: float) -> None:
        self._grace_seconds = min(self._grace_seconds, grace) if self._stopping.is_set() else grace
        if self._grace is not None:
            self._grace.shorten(grace)
        if self.record.ending is Ending.NONE:
            self.record.ending = Ending.DELETED
        self._stopping.set()

    def forget(self) -> None:
        """Delete what is left of the pod on the host, its logs too."""
        for container in self.containers:
            container.forget()
        shutil.rmtree(self.directory, ignore_errors=True)

    def container(self, name: str) -> Container | None:
        """The container of that name."""
        return next((container for container in self.containers if container.record.name == name), None)

    # For the containers

    def changed(self) -> None:
        """Write the status soon: all changes of this turn of the loop in one."""
        if not self._write_planned and not self.finished:
            self._write_planned = True
            asyncio.get_running_loop().call_soon(self._write_planned_status)

    def _write_planned_status(self) -> None:
        self._write_planned = False
        if not self.finished:
            self._write()

    def _write(self) -> None:
        current = None if self._gone else self._current()
        if current is not None:
            status = podstatus.build(current, self.record, self.store.clock())
            self.pod = self.store.update("pods", {**current, "status": status})

    def event(self, kind: str, reason: str, message: str, field: str = "") -> None:
        """Record an event of the pod."""
        if not self._gone:
            self._events.record(self.pod, kind, reason, message, field)

    def mounts(self, container: dict[str, Any], values: env.Values) -> list[Mount]:
        """Host directories for the container's volume mounts, and /tmp. Raises ConfigError."""
        mounts = self._volumes.mounts(self.pod, container, values)
        if any(mount.target == "/tmp" for mount in mounts):
            return mounts
        return [Mount(str(self._tmp), "/tmp"), *mounts]

    async def config_change(self) -> None:
        """Wait until some config map or secret changes."""
        await self._node.config_change()

    def _spawn(self, coroutine: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
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
        """End tasks; the failure of one is raised."""
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
