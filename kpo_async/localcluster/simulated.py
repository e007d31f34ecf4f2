"""Pods without processes: timers only, so that thousands can live at once.

A pod is simulated if it asks for the node selector `type: kwok` or has an annotation `sim/...`:

    sim/run-for: "5s"              how long it runs; without it, for ever
    sim/start-after: "1s"          how long it stays Pending
    sim/exit-code: "1"             of every main container
    sim/log-lines: "10"            lines of its log
    sim/termination-message: text  of the first main container
    sim/sidecar-message: text      of the last native sidecar
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from kpo_async.localcluster import podstatus, times
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.podstatus import ContainerRecord, Kind, PodRecord, Running, Terminated, Waiting
from kpo_async.localcluster.store import NotFound, Object, Store

_PREFIX = "sim/"
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT_LOG_LINES = 10


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
        if known is None or known.record.start_time == 0 or not known.running_since or options.previous:
            name = pod["metadata"]["name"]
            reason = "ContainerCreating" if not options.previous else "no previous terminated container"
            raise BadLogRequest(f'container "{options.container}" in pod "{name}" is waiting to start: {reason}')
        text = known.log(options)
        if text:
            yield text
        if options.follow:
            await known.ended.wait()


class _SimulatedPod:
    """One pod: two timers at most."""

    def __init__(self, store: Store, pod: Object) -> None:
        spec = pod["spec"]
        self.store = store
        self.pod = pod
        self.annotations = pod["metadata"].get("annotations") or {}
        self.running_since = 0
        self.ended = asyncio.Event()
        waiting = Waiting("PodInitializing" if spec.get("initContainers") else "ContainerCreating")
        records = []
        for container in spec.get("initContainers") or ():
            kind = Kind.SIDECAR if container.get("restartPolicy") == "Always" else Kind.INIT
            records.append(ContainerRecord(container, kind, waiting))
        records += [ContainerRecord(container, Kind.MAIN, waiting) for container in spec["containers"]]
        self.record = PodRecord(records, store.clock())
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | asyncio.Handle
        delay = self._seconds("start-after") or 0.0
        if delay:
            self.write()
            self._timer = loop.call_later(delay, self.start)
        else:
            self._timer = loop.call_soon(self.start)

    def _seconds(self, name: str) -> float | None:
        text = self.annotations.get(_PREFIX + name)
        return None if text is None else seconds(text)

    def start(self) -> None:
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
        self.write()
        duration = self._seconds("run-for")
        if duration is not None:
            self._timer = asyncio.get_running_loop().call_later(duration, self.finish)

    def finish(self) -> None:
        code = int(self.annotations.get(_PREFIX + "exit-code") or 0)
        self._end_containers(code)
        self.record.finished = True
        self.write()
        self.ended.set()

    def _end_containers(self, code: int) -> None:
        now = self.store.clock()
        messages = {}
        if self.record.main:
            messages[self.record.main[0].name] = self.annotations.get(_PREFIX + "termination-message") or ""
        sidecars = [container.name for container in self.record.init if container.kind is Kind.SIDECAR]
        if sidecars:
            messages[sidecars[-1]] = self.annotations.get(_PREFIX + "sidecar-message") or ""
        for container in self.record.containers:
            if isinstance(container.state, Running):
                exit_code = code if container.kind is Kind.MAIN else 0
                reason = "Completed" if exit_code == 0 else "Error"
                message = messages.get(container.name, "")
                since = container.state.started_at
                container.state = Terminated(exit_code, reason, container.container_id, since, now, message)
                container.started = False

    def delete(self) -> None:
        """End at once, as if every process heeded SIGTERM."""
        self._timer.cancel()
        metadata = self.pod["metadata"]
        if not self.record.finished:
            self._end_containers(143)
            self.record.finished = True
            self.write()
            self.ended.set()
        if not metadata.get("finalizers"):
            self.store.remove("pods", metadata["namespace"], metadata["name"])

    def close(self) -> None:
        self._timer.cancel()
        self.ended.set()

    def write(self) -> None:
        metadata = self.pod["metadata"]
        try:
            current = self.store.get("pods", metadata["namespace"], metadata["name"])
        except NotFound:
            return
        if current["metadata"]["uid"] == metadata["uid"]:
            status = podstatus.build(current, self.record, self.store.clock())
            self.pod = self.store.update("pods", {**current, "status": status})

    def log(self, options: LogOptions) -> bytes:
        """The lines that are asked for."""
        count = int(self.annotations.get(_PREFIX + "log-lines") or _DEFAULT_LOG_LINES)
        since = options.since_time or 0
        if options.since_seconds is not None:
            since = self.store.clock() - options.since_seconds * times.SECOND
        lines = [
            (self.running_since + number, f"line {number} of {count}\n")
            for number in range(1, count + 1)
            if self.running_since + number >= since
        ]
        if options.tail_lines is not None:
            lines = lines[len(lines) - min(options.tail_lines, len(lines)) :]
        texts = [f"{times.to_nanos(stamp)} {line}" if options.timestamps else line for stamp, line in lines]
        return "".join(texts).encode()[: options.limit_bytes]
