"""Simulated pods: timers instead of processes, so that thousands can run at once.

A pod is simulated if it has the node selector `type: kwok` or an annotation `sim/...`:

    sim/run-for: "5s"              how long it runs; without it, until it is deleted
    sim/start-after: "1s"          how long it stays Pending
    sim/exit-code: "1"             of every main container
    sim/reason: "OOMKilled"        of their end, instead of Completed or Error
    sim/log-lines: "10"            lines of its log
    sim/termination-message: text  of the first main container
    sim/sidecar-message: text      of the last native sidecar
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from kpo_async.localcluster.client import InProcessClient
from kpo_async.localcluster.kubelet import podstatus
from kpo_async.localcluster.kubelet.podstatus import ContainerRecord, ContainerType, PodRecord, Running, Terminated
from kpo_async.localcluster.kubelet.status_writer import PodStatusWriter
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object, has_ended, is_deleting

_PREFIX = "sim/"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT_LOG_LINES = 10
_SIGTERM_EXIT = 143


def is_simulated(pod: Object) -> bool:
    """Whether a pod runs without processes."""
    annotations = pod["metadata"].get("annotations") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    return selector.get("type") == "kwok" or any(key.startswith(_PREFIX) for key in annotations)


def seconds(duration: str) -> float:
    """Return the seconds of a Go duration such as `1m30s` or `1.5s`. Raises ValueError."""
    pieces = _DURATION.findall(duration)
    if not pieces or "".join(number + unit for number, unit in pieces) != duration:
        raise ValueError(f"not a duration: {duration!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)


@dataclass(frozen=True)
class Simulation:
    """A simulated pod's annotations."""

    start_after: float = 0.0
    run_for: float | None = None
    exit_code: int = 0
    reason: str = ""
    log_lines: int = _DEFAULT_LOG_LINES
    termination_message: str = ""
    sidecar_message: str = ""

    @classmethod
    def parse(cls, annotations: dict[str, str]) -> Simulation:
        """Parse the annotations. Raises ValueError for an invalid duration or number."""
        given = {key.removeprefix(_PREFIX): text for key, text in annotations.items() if key.startswith(_PREFIX)}
        return cls(
            start_after=seconds(given.get("start-after") or "0s"),
            run_for=seconds(given["run-for"]) if "run-for" in given else None,
            exit_code=int(given.get("exit-code") or 0),
            reason=given.get("reason") or "",
            log_lines=int(given.get("log-lines") or _DEFAULT_LOG_LINES),
            termination_message=given.get("termination-message") or "",
            sidecar_message=given.get("sidecar-message") or "",
        )


class Simulator:
    """All simulated pods of the node."""

    def __init__(self, client: InProcessClient, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock
        self._pods: dict[str, _SimulatedPod] = {}

    def update(self, pod: Object) -> None:
        """Take over a new pod, or a change of one."""
        uid = pod["metadata"]["uid"]
        known = self._pods.get(uid)
        if known is None:
            if has_ended(pod):
                return
            known = self._pods[uid] = _SimulatedPod(self._client, self._clock, pod)
        if is_deleting(pod):
            known.delete()

    def remove(self, uid: str) -> None:
        """Stop a pod that has been removed."""
        known = self._pods.pop(uid, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """Stop all pods."""
        for pod in self._pods.values():
            pod.close()
        self._pods.clear()

    async def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield fixed lines, and with `follow` wait for the pod's end. Raises BadLogRequest."""
        known = self._pods.get(pod["metadata"]["uid"])
        where = f'container "{options.container}" in pod "{pod["metadata"]["name"]}"'
        if options.previous:
            raise BadLogRequest(f"previous terminated {where} not found")
        if known is None or not known.running_since:
            raise BadLogRequest(f"{where} is waiting to start: ContainerCreating")
        text = known.log(options)
        if text:
            yield text
        if options.follow:
            await known.ended.wait()


class _SimulatedPod:
    """One pod, with one timer at a time."""

    def __init__(self, client: InProcessClient, clock: Callable[[], int], pod: Object) -> None:
        self.running_since = 0
        self.ended = asyncio.Event()
        self.record = PodRecord(_records(pod), clock())
        self._clock = clock
        self._status = PodStatusWriter(client, clock, pod)
        self._timer: asyncio.Handle | None = None
        self._simulation = Simulation()
        try:
            self._simulation = Simulation.parse(pod["metadata"].get("annotations") or {})
        except ValueError as error:
            self._fail(str(error))
            return
        loop = asyncio.get_running_loop()
        if self._simulation.start_after:
            self._status.write(self.record)
            self._timer = loop.call_later(self._simulation.start_after, self._start)
        else:
            self._timer = loop.call_soon(self._start)

    def _fail(self, message: str) -> None:
        """Fail the pod: its annotations are invalid."""
        self.record.finished = True
        self.ended.set()
        self._status.write(self.record, phase="Failed", reason="InvalidSimulation", message=message)

    def _start(self) -> None:
        now = self.running_since = self._clock()
        self.record.sandbox = True
        for container in self.record.containers:
            container.container_id = f"sim://{container.name}"
            container.image_id = container.spec.get("image", "")
            if container.type is ContainerType.INIT:
                container.state = Terminated(0, "Completed", container.container_id, now, now)
            else:
                container.state = Running(now)
                container.started = True
        self._status.write(self.record)
        if self._simulation.run_for is not None:
            self._timer = asyncio.get_running_loop().call_later(
                self._simulation.run_for, self._finish, self._simulation.exit_code
            )

    def _finish(self, exit_code: int) -> None:
        messages = {self.record.main[0].name: self._simulation.termination_message}
        sidecars = [container.name for container in self.record.init if container.type is ContainerType.SIDECAR]
        messages |= dict.fromkeys(sidecars[-1:], self._simulation.sidecar_message)
        now = self._clock()
        for container in self.record.containers:
            if isinstance(container.state, Running):
                main = container.type is ContainerType.MAIN
                code = exit_code if main else 0
                reason = (self._simulation.reason if main else "") or ("Completed" if code == 0 else "Error")
                message = messages.get(container.name, "")
                since = container.state.started_at
                container.state = Terminated(code, reason, container.container_id, since, now, message)
                container.started = False
        self.record.finished = True
        self._status.write(self.record)
        self.ended.set()

    def delete(self) -> None:
        """End at once, as if every process ended on SIGTERM."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.record.finished:
            self._finish(_SIGTERM_EXIT)
        self._status.confirm_deletion()

    def close(self) -> None:
        """Stop the timer and end the logs that are followed."""
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set()

    def log(self, options: LogOptions) -> bytes:
        """Return the lines that `options` select."""
        count = self._simulation.log_lines
        since = options.since_time or 0
        if options.since_seconds is not None:
            since = self._clock() - options.since_seconds * times.SECOND
        first = max(1, since - self.running_since)
        if options.tail_lines is not None:
            first = max(first, count + 1 - options.tail_lines)
        lines = []
        for number in range(first, count + 1):
            stamp = f"{times.to_nanos(self.running_since + number)} " if options.timestamps else ""
            lines.append(f"{stamp}line {number} of {count}\n")
        return "".join(lines).encode()[: options.limit_bytes]


def _records(pod: Object) -> list[ContainerRecord]:
    waiting = podstatus.initial_state(pod)
    return [ContainerRecord(spec, role, waiting) for spec, role in podstatus.containers_of(pod)]
