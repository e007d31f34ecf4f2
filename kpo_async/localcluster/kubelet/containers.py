"""One container of a pod: from its image to its exit, as many times as the pod's worker starts it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kpo_async.localcluster.kubelet import env, handlers, images
from kpo_async.localcluster.kubelet.grace import Grace
from kpo_async.localcluster.kubelet.logfile import LogFile
from kpo_async.localcluster.kubelet.podstatus import ContainerRecord, Kind, Running, Terminated, Waiting
from kpo_async.localcluster.kubelet.settings import KubeletSettings, go_duration
from kpo_async.localcluster.runtime.runtime import Mount, Process, ProcessSpec, Runtime, StartError
from kpo_async.localcluster.store.store import Object, Store

_TERMINATION_MESSAGE_PATH = "/dev/termination-log"
_MESSAGE_BYTES = 4096
_LOG_MESSAGE_BYTES, _LOG_MESSAGE_LINES = 2048, 80
_START_ERROR = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: {}: unknown"
)


class PodContext(Protocol):
    """What a container needs of its pod."""

    store: Store
    runtime: Runtime
    settings: KubeletSettings
    directory: Path
    cluster_env: env.Values

    @property
    def pod(self) -> Object:
        """The pod as last seen."""

    def changed(self) -> None:
        """The status has to be written."""

    def event(self, kind: str, reason: str, message: str, field: str = "") -> None:
        """Record an event of the pod."""

    def mounts(self, container: dict[str, Any], values: env.Values) -> list[Mount]:
        """Host directories for the container's volume mounts."""

    async def config_change(self) -> None:
        """Wait until some config map or secret changes, or it is time to look again."""


@dataclass
class Instance:
    """One run of a container."""

    id: str
    log: LogFile
    message_file: Path
    spec: ProcessSpec
    started_at: int = 0
    process: Process | None = None


class Container:
    """Starts a container's processes and keeps its record true. `record` is what the status is built from."""

    def __init__(self, context: PodContext, spec: dict[str, Any], kind: Kind) -> None:
        has_init = bool(context.pod["spec"].get("initContainers"))
        self.context = context
        self.record = ContainerRecord(spec, kind, Waiting("PodInitializing" if has_init else "ContainerCreating"))
        self.field = f"spec.{'containers' if kind is Kind.MAIN else 'initContainers'}{{{self.record.name}}}"
        self.instance: Instance | None = None
        self.previous: Instance | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        return isinstance(self.record.state, Running)

    async def start(self) -> None:
        """Return once the container runs, or has failed to start (its record is then Terminated).

        Waits as long as its image or its configuration is not to be had.
        """
        image = await self._image()
        spec, message_file = await self._configuration(image)
        identity = secrets.token_hex(32)
        log = LogFile(self.context.directory / "logs" / f"{self.record.name}.{identity[:12]}", self.context.store.clock)
        if self.previous is not None:
            self.previous.log.remove()
        self.previous, self.instance = self.instance, Instance(identity, log, message_file, spec)
        if self.previous is not None:
            self.record.restarts += 1
            self.record.last = self.record.ended
        self.record.container_id = f"local://{identity}"
        self.record.image_id = f"local/{image.name}"
        self.event("Normal", "Created", f"Created container: {self.record.name}")
        await self._launch(self.instance)

    async def _launch(self, instance: Instance) -> None:
        self._ended.clear()
        try:
            instance.process = await self.context.runtime.run(instance.spec, instance.log.open_pipe())
        except StartError as error:
            message = _START_ERROR.format(error)
            self.event("Warning", "Failed", f"Error: {message}")
            self._end(instance, Terminated(128, "StartError", self.record.container_id, 0, self._now(), message))
            return
        instance.started_at = self._now()
        self.event("Normal", "Started", f"Started container {self.record.name}")
        self.record.state = Running(instance.started_at)
        self.record.started = "startupProbe" not in self.record.spec
        self.record.probed_ready = "readinessProbe" not in self.record.spec
        self.context.changed()
        instance.process.exited.add_done_callback(lambda exited: self._exited(instance, exited.result()))
        await handlers.post_start(self)

    async def _image(self) -> images.Image:
        name = self.record.spec.get("image", "")
        delay = self.context.settings.pull_delay
        while True:
            try:
                image = images.find(name)
            except images.ImageRefused as error:
                await self._without_image(name, error, delay)
                delay = min(delay * 2, self.context.settings.restart_delay_limit)
            else:
                self.event("Normal", "Pulled", f'Container image "{name}" already present on machine')
                return image

    async def _without_image(self, name: str, error: images.ImageRefused, delay: float) -> None:
        """Show why, and wait until it is time to try again."""
        self._wait_for(error.reason, str(error))
        if not error.pull:
            self.event("Warning", "InspectFailed", str(error))
            self.event("Warning", "Failed", f"Error: {error.reason}")
            await asyncio.get_running_loop().create_future()  # nothing that could happen makes it a valid name
        self.event("Normal", "Pulling", f'Pulling image "{name}"')
        self.event("Warning", "Failed", f'Failed to pull image "{name}": {error}')
        self.event("Warning", "Failed", "Error: ErrImagePull")
        await asyncio.sleep(self.context.settings.pull_report)
        back_off = f'Back-off pulling image "{name}"'
        self._wait_for("ImagePullBackOff", f"{back_off}: {error.reason}: {error}")
        self.event("Normal", "BackOff", back_off)
        self.event("Warning", "Failed", "Error: ImagePullBackOff")
        await asyncio.sleep(delay)

    async def _configuration(self, image: images.Image) -> tuple[ProcessSpec, Path]:
        while True:
            try:
                return self._process_spec(image)
            except env.ConfigError as error:
                self._wait_for("CreateContainerConfigError", str(error))
                self.event("Warning", "Failed", f"Error: {error}")
                await self.context.config_change()

    def _process_spec(self, image: images.Image) -> tuple[ProcessSpec, Path]:
        spec, pod = self.record.spec, self.context.pod
        values = env.environment(self.context.store, pod, spec, self.context.cluster_env)
        argv = env.command(spec, image.default_command, values)
        mounts = self.context.mounts(spec, values)
        message_file = self.context.directory / "messages" / f"{self.record.name}.{self.record.restarts}"
        message_file.parent.mkdir(parents=True, exist_ok=True)
        message_file.write_bytes(b"")
        message_file.chmod(0o666)
        target = spec.get("terminationMessagePath") or _TERMINATION_MESSAGE_PATH
        mounts.append(Mount(str(message_file), target))
        cwd = spec.get("workingDir") or self.context.runtime.working_directory(self.context.directory)
        return ProcessSpec(argv, values, cwd, env.hostname(pod), mounts), message_file

    def _exited(self, instance: Instance, code: int) -> None:
        instance.log.close()
        reason = "Completed" if code == 0 else "Error"
        message = self._termination_message(instance, code)
        end = Terminated(code, reason, f"local://{instance.id}", instance.started_at, self._now(), message)
        self._end(instance, end)

    def _end(self, instance: Instance, end: Terminated) -> None:
        instance.log.close()
        self.record.state = end
        self.record.started = False
        self._ended.set()
        self.context.changed()

    def _termination_message(self, instance: Instance, code: int) -> str:
        with instance.message_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MESSAGE_BYTES))
            message = file.read().decode(errors="replace")
        wants_log = self.record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not message and code != 0 and wants_log:
            return instance.log.tail(_LOG_MESSAGE_LINES, _LOG_MESSAGE_BYTES)
        return message

    async def wait(self) -> Terminated:
        """The end of the present run."""
        await self._ended.wait()
        end = self.record.ended
        assert end is not None, "waited for a container that was never started"
        return end

    async def stop(self, grace: Grace, reason: str = "") -> None:
        """preStop, SIGTERM, and SIGKILL when the grace is over; returns when the container has ended."""
        if not self.running or self.instance is None or self.instance.process is None:
            return
        self.event("Normal", "Killing", reason or f"Stopping container {self.record.name}")
        process = self.instance.process
        await handlers.pre_stop(self, self._ended, grace)
        process.signal(signal.SIGTERM)
        if not await grace.wait_for(self._ended):
            process.signal(signal.SIGKILL)
            await self._ended.wait()

    def kill(self) -> None:
        """SIGKILL, without waiting for the end."""
        if self.instance is not None and self.instance.process is not None:
            self.instance.process.signal(signal.SIGKILL)

    def back_off(self, delay: float) -> None:
        """Show that the container waits to be started again."""
        metadata = self.context.pod["metadata"]
        where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        name = self.record.name
        self.event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        text = f"back-off {go_duration(delay)} restarting failed container={name} pod={where}"
        self._wait_for("CrashLoopBackOff", text)

    def _wait_for(self, reason: str, message: str) -> None:
        waiting = Waiting(reason, message)
        self.record.last = self.record.ended
        if self.record.state != waiting:
            self.record.state = waiting
            self.context.changed()

    def event(self, kind: str, reason: str, message: str) -> None:
        """Record an event about this container."""
        self.context.event(kind, reason, message, self.field)

    def _now(self) -> int:
        return self.context.store.clock()

    def forget(self) -> None:
        """Delete the logs."""
        for instance in (self.previous, self.instance):
            if instance is not None:
                instance.log.remove()
