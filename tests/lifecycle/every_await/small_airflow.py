"""An Airflow for one task instance: starts the processes of its tries, and keeps what they report."""

from __future__ import annotations

import asyncio
import multiprocessing
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from airflow.sdk.execution_time.comms import (
    GetTaskStates,
    GetVariable,
    GetXCom,
    MaskSecret,
    PutVariable,
    SetXCom,
    TaskStatesResult,
    VariableResult,
    XComResult,
)

from kpo_async.pod.names import TaskIdentity
from tests.lifecycle.every_await import mortal
from tests.lifecycle.every_await.mortal import Ended, EndedByUser, Fate, Report

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([mortal.__name__])


class Actor(Enum):
    """The processes of one try, in their order."""

    START = "the worker that starts"
    TRIGGER = "the trigger"
    RESUME = "the worker that resumes"


@dataclass
class SmallAirflow:
    """A task instance. Its tries go on until one ends it; a try whose worker was lost is followed by another."""

    parameters: dict[str, Any]
    fates: dict[Actor, Fate] = field(default_factory=dict)
    """The first process of each kind ends like this."""
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    xcoms: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    error: str = ""
    tries: list[TaskIdentity] = field(default_factory=list)
    fates_met: bool = True
    requests: dict[Actor, tuple[str, ...]] = field(default_factory=dict)
    """What the processes that were not ended have sent."""

    async def run(self) -> None:
        """Run tries until the task has ended."""
        while self.state == "running":
            identity = TaskIdentity(str(uuid.uuid4()), "dag", "task", self.run_id, len(self.tries) + 1)
            self.tries.append(identity)
            await self._run_try(identity)

    async def _run_try(self, identity: TaskIdentity) -> None:
        if self.parameters.get("start_from_trigger"):
            report: Report | None = Report(deferred={"parameters": self.parameters})
        else:
            report = await self._work(Actor.START, identity, None)
        while report is not None and report.deferred is not None:
            event = await self._defer(identity, report.deferred)
            # A worker that resumes may defer again, with the pod of another attempt.
            report = None if event is None else await self._work(Actor.RESUME, identity, event)

    async def _defer(self, identity: TaskIdentity, row: dict[str, Any]) -> Any:
        """Run the trigger of this row until it fires, in one triggerer after another. Return its event, if any."""
        # As if it had waited for a while: Airflow loses a task that is resumed within seconds of its deferral.
        if "pod_task" in row:
            row["pod_task"]["deferred_at"] -= 3600
        self.state = "deferred"
        while self.state == "deferred":
            report = await self._process(Actor.TRIGGER, mortal.trigger, identity, row)
            if report is None or self.state != "deferred":  # a task that its user has ended takes no event
                continue
            if report.state:
                self.state = report.state
            elif report.event is not None:
                self.state = "running"
                return report.event
        return None

    async def _work(self, actor: Actor, identity: TaskIdentity, event: Any) -> Report | None:
        user_ends = actor in self.fates and self.fates[actor].end is mortal.End.ENDED_BY_USER
        report = await self._process(actor, mortal.work, identity, 3, self.parameters, event)
        if user_ends:
            self.state = "failed"
        elif report is not None and report.state:
            self.state, self.error = report.state, report.error
            if report.result is not None:
                self.xcoms["return_value"] = report.result
        return report

    async def _process(self, actor: Actor, target: Callable[..., None], *arguments: Any) -> Report | None:
        """Run a process and answer its requests. Return its report, None if it was killed."""
        fate = self.fates.pop(actor, None)
        ours, theirs = _processes.Pipe()
        process = _processes.Process(target=target, args=(theirs, *arguments, fate))
        process.start()
        theirs.close()
        try:
            report = await self._serve(ours)
        finally:
            ours.close()
            process.kill()
            await asyncio.to_thread(process.join)
        self.fates_met &= report is None or report.met_its_fate
        if report is not None and fate is None:
            self.requests[actor] = report.requests
        return report

    async def _serve(self, pipe: Connection) -> Report | None:
        while True:
            await _readable(pipe)
            try:
                message = pipe.recv()
                if isinstance(message, Report):
                    return message
                pipe.send(self._answer(message))
            except (EOFError, OSError):
                return None

    def _answer(self, message: Any) -> Any:
        if isinstance(message, GetVariable):
            return VariableResult(key=message.key, value="installation")
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={self.run_id: {"task": self.state}})
        if isinstance(message, GetXCom):
            return XComResult(key=message.key, value=self.xcoms.get(message.key))
        if isinstance(message, SetXCom):
            self.xcoms[message.key] = message.value
        elif isinstance(message, tuple):  # from a worker
            self.xcoms[message[0]] = message[1]
        elif isinstance(message, EndedByUser):
            self.state = "failed"
        elif isinstance(message, Ended):
            self.state = message.state if self.state == "deferred" else self.state
        else:
            assert isinstance(message, (MaskSecret, PutVariable))
        return None


async def _readable(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(pipe.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe.fileno())
