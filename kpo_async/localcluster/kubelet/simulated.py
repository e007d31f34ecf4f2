"""Pods without processes: timers only, so that thousands can live at once.

A pod is simulated if it asks for the node selector `type: kwok` or has an annotation `sim/...`:

    sim/run-for: "5s"              how long it runs; without it, for ever
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
from collections.abc import AsyncIterator
from dataclasses import dataclass

from kpo_async.localcluster.api import deletion
from kpo_async.localcluster.kubelet import podstatus
from kpo_async.localcluster.kubelet.podstatus import ContainerRecord, Kind, PodRecord, Running, Terminated, Waiting
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import NotFound, Object, Store

_PREFIX = "sim/"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT_LOG_LINES = 10
_SIGTERM_EXIT = 143


def is_simulated(pod: Object) -> bool:
    """Whether a pod runs no process."""
    annotations = pod["metadata"].get("annotations") or {}
    selector = pod["spec"].get("nodeSelector") or {}
    return selector.get("type") == "kwok" or any(key.startswith(_PREFIX) for key in annotations)


def seconds(duration: str) -> float:
    """A Go duration such as `1m30s` or `1.5s`. Raises ValueError."""
    pieces = _DURATION.findall(duration)
    if not pieces or "".join(number + unit for number, unit in pieces) != duration:
        raise ValueError(f"not a duration: {duration!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)


@dataclass(frozen=True)
class Script:
    """What a simulated pod's annotations ask for."""

    start_after: float = 0.0
    run_for: float | None = None
    exit_code: int = 0
    reason: str = ""
    log_lines: int = _DEFAULT_LOG_LINES
    termination_message: str = ""
    sidecar_message: str = ""

    @classmethod
    def read(cls, annotations: dict[str, str]) -> Script:
        """Raises ValueError for what is no duration or number."""
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

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pods: dict[str, _SimulatedPod] = {}

    def seen(self, pod: Object) -> None:
        """A pod is there, or has changed."""
        uid = pod["metadata"]["uid"]
        known = self._pods.get(uid)
        if known is None:
            if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                return
            known = self._pods[uid] = _SimulatedPod(self._store, pod)
        if pod["metadata"].get("deletionTimestamp"):
            known.delete()

    def removed(self, uid: str) -> None:
        """A pod is no longer there."""
        known = self._pods.pop(uid, None)
        if known is not None:
            known.close()

    def close(self) -> None:
        """Stop all timers."""
        for pod in self._pods.values():
            pod.close()
        self._pods.clear()

    async def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """Fixed lines, and with `follow` the wait for the end. Raises BadLogRequest."""
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
    """One pod: one timer at a time."""

    def __init__(self, store: Store, pod: Object) -> None:
        self.store = store
        self.pod = pod
        self.running_since = 0
        self.ended = asyncio.Event()
        self.record = PodRecord(_records(pod), store.clock())
        self._timer: asyncio.Handle | None = None
        self._script = Script()
        try:
            self._script = Script.read(pod["metadata"].get("annotations") or {})
        except ValueError as error:
            self._refuse(str(error))
            return
        loop = asyncio.get_running_loop()
        if self._script.start_after:
            self._write()
            self._timer = loop.call_later(self._script.start_after, self._start)
        else:
            self._timer = loop.call_soon(self._start)

    def _refuse(self, message: str) -> None:
        """The annotations mean nothing: say so instead of living some other life."""
        self.record.finished = True
        self.ended.set()
        self._write({"phase": "Failed", "reason": "InvalidSimulation", "message": message})

    def _start(self) -> None:
        now = self.running_since = self.store.clock()
        self.record.sandbox = True
        for container in self.record.containers:
            container.container_id = f"sim://{container.name}"
            container.image_id = container.spec.get("image", "")
            if container.kind is Kind.INIT:
                container.state = Terminated(0, "Completed", container.container_id, now, now)
            else:
                container.state = Running(now)
                container.started = True
        self._write()
        if self._script.run_for is not None:
            self._timer = asyncio.get_running_loop().call_later(
                self._script.run_for, self._finish, self._script.exit_code
            )

    def _finish(self, exit_code: int) -> None:
        messages = {self.record.main[0].name: self._script.termination_message}
        sidecars = [container.name for container in self.record.init if container.kind is Kind.SIDECAR]
        messages |= dict.fromkeys(sidecars[-1:], self._script.sidecar_message)
        now = self.store.clock()
        for container in self.record.containers:
            if isinstance(container.state, Running):
                main = container.kind is Kind.MAIN
                code = exit_code if main else 0
                reason = (self._script.reason if main else "") or ("Completed" if code == 0 else "Error")
                message = messages.get(container.name, "")
                since = container.state.started_at
                container.state = Terminated(code, reason, container.container_id, since, now, message)
                container.started = False
        self.record.finished = True
        self._write()
        self.ended.set()

    def delete(self) -> None:
        """End at once, as if every process heeded SIGTERM."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.record.finished:
            self._finish(_SIGTERM_EXIT)
        current = self._current()
        if current is not None:
            deletion.finish(self.store, current["metadata"]["namespace"], current["metadata"]["name"])

    def close(self) -> None:
        """Nothing further happens to it."""
        if self._timer is not None:
            self._timer.cancel()
        self.ended.set()

    def _current(self) -> Object | None:
        metadata = self.pod["metadata"]
        try:
            current = self.store.get("pods", metadata["namespace"], metadata["name"])
        except NotFound:
            return None
        return current if current["metadata"]["uid"] == metadata["uid"] else None

    def _write(self, more: Object | None = None) -> None:
        current = self._current()
        if current is not None:
            status = podstatus.build(current, self.record, self.store.clock())
            self.pod = self.store.update("pods", {**current, "status": {**status, **(more or {})}})

    def log(self, options: LogOptions) -> bytes:
        """The lines that are asked for."""
        count = self._script.log_lines
        since = options.since_time or 0
        if options.since_seconds is not None:
            since = self.store.clock() - options.since_seconds * times.SECOND
        first = max(1, since - self.running_since)
        if options.tail_lines is not None:
            first = max(first, count + 1 - options.tail_lines)
        lines = []
        for number in range(first, count + 1):
            stamp = f"{times.to_nanos(self.running_since + number)} " if options.timestamps else ""
            lines.append(f"{stamp}line {number} of {count}\n")
        return "".join(lines).encode()[: options.limit_bytes]


def _records(pod: Object) -> list[ContainerRecord]:
    spec = pod["spec"]
    waiting = Waiting("PodInitializing" if spec.get("initContainers") else "ContainerCreating")
    records = []
    for container in spec.get("initContainers") or ():
        kind = Kind.SIDECAR if container.get("restartPolicy") == "Always" else Kind.INIT
        records.append(ContainerRecord(container, kind, waiting))
    return records + [ContainerRecord(container, Kind.MAIN, waiting) for container in spec["containers"]]
