"""One container of a pod: from its image to its exit, each time that the pod's worker starts it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kpo_async.localcluster.client import InProcessClient
from kpo_async.localcluster.kubelet import env, handlers, images
from kpo_async.localcluster.kubelet.grace import Grace
from kpo_async.localcluster.kubelet.logfile import LogFile
from kpo_async.localcluster.kubelet.podstatus import (
    ContainerRecord,
    ContainerType,
    Running,
    Terminated,
    Waiting,
    initial_state,
)
from kpo_async.localcluster.kubelet.settings import KubeletSettings, go_duration
from kpo_async.localcluster.runtime.runtime import ContainerProcess, Mount, ProcessSpec, Runtime, StartError
from kpo_async.localcluster.store.objects import Object

_TERMINATION_MESSAGE_PATH = "/dev/termination-log"
_MESSAGE_BYTES = 4096
_LOG_MESSAGE_BYTES, _LOG_MESSAGE_LINES = 2048, 80
_START_ERROR = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
    "runc create failed: unable to start container process: {}: unknown"
)


class PodContext(Protocol):
    """The part of a pod's worker that its containers use."""

    client: InProcessClient
    clock: Callable[[], int]
    runtime: Runtime
    settings: KubeletSettings
    directory: Path
    cluster_env: env.Values

    @property
    def pod(self) -> Object:
        """The pod as last received."""

    def changed(self) -> None:
        """Write the pod's status soon."""

    def event(self, event_type: str, reason: str, message: str, field: str = "") -> None:
        """Record an event of the pod."""

    def mounts(self, container: Object, values: env.Values) -> list[Mount]:
        """Return the mounts of a container's volumes."""

    async def config_change(self) -> None:
        """Wait until a config map or secret changes, or until the next try is due."""


@dataclass
class ContainerRun:
    """One run of a container."""

    id: str
    log: LogFile
    message_file: Path
    spec: ProcessSpec
    started_at: int = 0
    process: ContainerProcess | None = None


class ContainerWorker:
    """Starts a container's processes and keeps its record up to date; the pod's status is built from `record`."""

    def __init__(self, context: PodContext, spec: Object, container_type: ContainerType) -> None:
        self.context = context
        self.record = ContainerRecord(spec, container_type, initial_state(context.pod))
        self.current: ContainerRun | None = None
        self.previous: ContainerRun | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return isinstance(self.record.state, Running)

    async def start(self) -> None:
        """Return once the container runs, or has failed to start (its record is then Terminated).

        Waits while its image or its configuration is not available.
        """
        image = await self._image()
        spec, message_file = await self._configuration(image)
        identity = secrets.token_hex(32)
        log = LogFile(self.context.directory / "logs" / f"{self.record.name}.{identity[:12]}", self.context.clock)
        if self.previous is not None:
            self.previous.log.remove()
        self.previous, self.current = self.current, ContainerRun(identity, log, message_file, spec)
        if self.previous is not None:
            self.record.restarts += 1
            self.record.last = self.record.ended
        self.record.container_id = f"local://{identity}"
        self.record.image_id = f"local/{image.name}"
        self.event("Normal", "Created", f"Created container: {self.record.name}")
        await self._launch(self.current)

    async def _launch(self, run: ContainerRun) -> None:
        self._ended.clear()
        try:
            run.process = await self.context.runtime.run(run.spec, run.log.open_pipe())
        except StartError as error:
            message = _START_ERROR.format(error)
            self.event("Warning", "Failed", f"Error: {message}")
            self._end(run, Terminated(128, "StartError", self.record.container_id, 0, self.context.clock(), message))
            return
        run.started_at = self.context.clock()
        self.event("Normal", "Started", f"Started container {self.record.name}")
        self.record.state = Running(run.started_at)
        self.record.started = "startupProbe" not in self.record.spec
        self.record.probed_ready = "readinessProbe" not in self.record.spec
        self.context.changed()
        run.process.exited.add_done_callback(lambda exited: self._exited(run, exited.result()))
        await handlers.post_start(self)

    async def _image(self) -> images.Image:
        name = self.record.spec.get("image", "")
        delay = self.context.settings.pull_delay
        while True:
            try:
                image = images.find(name)
            except images.ImageError as error:
                await self._back_off_pull(name, error, delay)
                delay = min(delay * 2, self.context.settings.restart_delay_limit)
            else:
                self.event("Normal", "Pulled", f'Container image "{name}" already present on machine')
                return image

    async def _back_off_pull(self, name: str, error: images.ImageError, delay: float) -> None:
        """Show the error, and wait until the next try is due."""
        self._set_waiting(error.reason, str(error))
        if not error.pull:
            self.event("Warning", "InspectFailed", str(error))
            self.event("Warning", "Failed", f"Error: {error.reason}")
            await asyncio.get_running_loop().create_future()  # Wait for ever: an invalid name stays invalid.
        self.event("Normal", "Pulling", f'Pulling image "{name}"')
        self.event("Warning", "Failed", f'Failed to pull image "{name}": {error}')
        self.event("Warning", "Failed", "Error: ErrImagePull")
        await asyncio.sleep(self.context.settings.pull_report)
        back_off = f'Back-off pulling image "{name}"'
        self._set_waiting("ImagePullBackOff", f"{back_off}: {error.reason}: {error}")
        self.event("Normal", "BackOff", back_off)
        self.event("Warning", "Failed", "Error: ImagePullBackOff")
        await asyncio.sleep(delay)

    async def _configuration(self, image: images.Image) -> tuple[ProcessSpec, Path]:
        while True:
            try:
                return self._process_spec(image)
            except env.ContainerConfigError as error:
                self._set_waiting("CreateContainerConfigError", str(error))
                self.event("Warning", "Failed", f"Error: {error}")
                await self.context.config_change()

    def _process_spec(self, image: images.Image) -> tuple[ProcessSpec, Path]:
        spec, pod = self.record.spec, self.context.pod
        values = env.environment(self.context.client, pod, spec, self.context.cluster_env)
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

    def _exited(self, run: ContainerRun, code: int) -> None:
        run.log.close()
        reason = "Completed" if code == 0 else "Error"
        message = self._termination_message(run, code)
        end = Terminated(code, reason, f"local://{run.id}", run.started_at, self.context.clock(), message)
        self._end(run, end)

    def _end(self, run: ContainerRun, end: Terminated) -> None:
        run.log.close()
        self.record.state = end
        self.record.started = False
        self._ended.set()
        self.context.changed()

    def _termination_message(self, run: ContainerRun, code: int) -> str:
        with run.message_file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _MESSAGE_BYTES))
            message = file.read().decode(errors="replace")
        falls_back_to_log = self.record.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not message and code != 0 and falls_back_to_log:
            return run.log.tail(_LOG_MESSAGE_LINES, _LOG_MESSAGE_BYTES)
        return message

    async def wait(self) -> Terminated:
        """Wait for the end of the current run, and return it."""
        await self._ended.wait()
        end = self.record.ended
        assert end is not None, "the container has never been started"
        return end

    async def stop(self, grace: Grace, reason: str = "") -> None:
        """Run preStop, send SIGTERM, and SIGKILL when the grace is over; return when the container has ended."""
        if not self.running or self.current is None or self.current.process is None:
            return
        self.event("Normal", "Killing", reason or f"Stopping container {self.record.name}")
        process = self.current.process
        await handlers.pre_stop(self, self._ended, grace)
        process.signal(signal.SIGTERM)
        if not await grace.wait_for(self._ended):
            process.signal(signal.SIGKILL)
            await self._ended.wait()

    def kill(self) -> None:
        """Send SIGKILL, without waiting for the end."""
        if self.current is not None and self.current.process is not None:
            self.current.process.signal(signal.SIGKILL)

    def back_off(self, delay: float) -> None:
        """Show that the container is waiting for its restart."""
        metadata = self.context.pod["metadata"]
        where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        name = self.record.name
        self.event("Warning", "BackOff", f"Back-off restarting failed container {name} in pod {where}")
        text = f"back-off {go_duration(delay)} restarting failed container={name} pod={where}"
        self._set_waiting("CrashLoopBackOff", text)

    def _set_waiting(self, reason: str, message: str) -> None:
        waiting = Waiting(reason, message)
        self.record.last = self.record.ended
        if self.record.state != waiting:
            self.record.state = waiting
            self.context.changed()

    def event(self, event_type: str, reason: str, message: str) -> None:
        """Record an event about this container."""
        field = "containers" if self.record.type is ContainerType.MAIN else "initContainers"
        self.context.event(event_type, reason, message, f"spec.{field}{{{self.record.name}}}")

    def delete_logs(self) -> None:
        """Delete the log files."""
        for run in (self.previous, self.current):
            if run is not None:
                run.log.remove()
