"""A worker's and a triggerer's process that ends at the request at which the test wants it to end.

Both run the operator's and the trigger's own code, started as Airflow starts them. They talk to the API server, and
through a pipe to the test, which is their Airflow. A process ends, or is told to, just before it sends its n-th request
to either of them, or when that request has been answered and the process has not seen the answer yet.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any

from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import BaseTaskEndEvent, BaseTrigger

from kpo_async.hooks.airflow import AirflowException, TaskDeferred
from kpo_async.kube.retry import Backoff
from kpo_async.kube.transport import Request, Response, Transport
from kpo_async.lifecycle import attempts
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.pod.names import TaskIdentity
from kpo_async.triggers import ended_pods
from kpo_async.triggers.pod import KubernetesPodTrigger
from kpo_async.workerless.trigger import KubernetesPodStartTrigger
from tests.airflow_versions import DagSerialization
from tests.triggers.triggerer import task_instance

attempts.BACKOFF = Backoff(first=0.2, jitter=0.0)
ended_pods.PERIOD = 0.2
CANCELLED_EVERY = 1.0
"""Seconds between two cancellations of a trigger, as in Airflow. One that comes while Airflow logs the one before, in a
thread and before it calls `on_kill`, costs the kill: the pod is the reconciler's then."""
LIFETIME = 60.0
"""Seconds after which a process that hangs prints where, and ends."""


class End(Enum):
    """How a process ends."""

    KILLED = "SIGKILL"
    """By the kernel, or with its machine."""
    STOPPED = "stops"
    """The triggerer stops: its triggers are cancelled, and it leaves."""
    ENDED_BY_USER = "its user ends the task"
    """A worker gets SIGTERM, for which Airflow calls `on_kill`; a triggerer cancels the trigger again and again."""


class Moment(Enum):
    """When it ends."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Fate:
    """The process ends like this at its `number`-th request, counted from 1."""

    end: End
    number: int
    moment: Moment


@dataclass(frozen=True)
class Report:
    """What a process reports before it leaves: what its task came to, and the requests that it has sent."""

    deferred: Any = None
    event: Any = None
    result: Any = None
    error: str = ""
    state: str = ""
    """The task's state, if the process has ended it."""
    requests: tuple[str, ...] = ()
    met_its_fate: bool = True


@dataclass(frozen=True)
class EndedByUser:
    """A message to the test: the user ends the task now."""


@dataclass(frozen=True)
class Ended:
    """A message to the test: store that the trigger has ended the task."""

    state: str


@dataclass
class Requests:
    """Counts a process's requests, and calls `act` at the one that its fate names."""

    fate: Fate | None
    act: Callable[[End], None]
    sent: list[str] = field(default_factory=list)

    def before(self, name: str) -> int:
        self.sent.append(name)
        self._look(len(self.sent), Moment.BEFORE)
        return len(self.sent)

    def after(self, number: int) -> None:
        self._look(number, Moment.AFTER)

    def _look(self, number: int, moment: Moment) -> None:
        if self.fate is not None and (self.fate.number, self.fate.moment) == (number, moment):
            end, self.fate = self.fate.end, None
            if end is End.KILLED:
                os.kill(os.getpid(), signal.SIGKILL)
            self.act(end)

    def count_those_to_the_api_server(self) -> None:
        exchange = Transport.exchange

        @asynccontextmanager
        async def counted(transport: Transport, request: Request, deadline: float) -> AsyncIterator[Response]:
            number = self.before(f"{request.action.verb} {request.action.resource}")
            await asyncio.sleep(0)
            async with exchange(transport, request, deadline) as response:
                self.after(number)
                await asyncio.sleep(0)
                yield response

        Transport.exchange = counted  # type: ignore[method-assign]


class Airflow:
    """The supervisor of this process: sends its requests to the test and returns the answers."""

    def __init__(self, pipe: Connection, requests: Requests) -> None:
        self._pipe = pipe
        self._requests = requests
        self._lock = threading.Lock()

    def send(self, message: Any) -> Any:
        number = self._requests.before(type(message).__name__)
        answer = self.tell(message)
        self._requests.after(number)
        return answer

    async def asend(self, message: Any) -> Any:
        return await asyncio.to_thread(self.send, message)

    def tell(self, message: Any) -> Any:
        """Send what does not count as a request of the process."""
        with self._lock:
            self._pipe.send(message)
            return self._pipe.recv()

    def report(self, report: Report) -> None:
        """Send what needs no answer."""
        with self._lock:
            self._pipe.send(report)


@dataclass
class TaskInstance:
    """A worker's view of its task instance."""

    identity: TaskIdentity
    max_tries: int
    airflow: Airflow
    map_index: int = -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.identity, name)

    def xcom_push(self, key: str, value: Any) -> None:
        self.airflow.send((key, value))


def work(
    pipe: Connection, identity: TaskIdentity, max_tries: int, parameters: dict[str, Any], event: Any, fate: Fate | None
) -> None:
    """Run a worker's part of a try: the start, or with an `event` the resumption."""
    faulthandler.dump_traceback_later(LIFETIME, exit=True)
    requests = Requests(fate, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    airflow = Airflow(pipe, requests)
    operator = KubernetesPodOperator(**parameters)

    def on_sigterm(*_: object) -> None:
        operator.on_kill()

    signal.signal(signal.SIGTERM, on_sigterm)
    task_runner.SUPERVISOR_COMMS = airflow  # type: ignore[assignment]
    requests.count_those_to_the_api_server()
    context: Any = {"ti": TaskInstance(identity, max_tries, airflow)}
    fields: dict[str, Any] = {}
    try:
        if event is None:
            fields["result"] = operator.execute(context)
        else:
            fields["result"] = operator.resume_execution("trigger_reentry", {"event": event}, context)
        fields["state"] = "success"
    except TaskDeferred as deferral:
        fields["deferred"] = json.loads(json.dumps(deferral.trigger.serialize()[1]))
    except AirflowException as error:
        fields.update(error=str(error), state="failed")
    pipe.send(Report(requests=tuple(requests.sent), met_its_fate=requests.fate is None, **fields))


def trigger(pipe: Connection, identity: TaskIdentity, row: dict[str, Any], fate: Fate | None) -> None:
    """Run a trigger by Airflow's own runner until it fires or is cancelled.

    `row` has the arguments of the trigger; or `parameters`, those of an operator that starts in the triggerer.
    """
    faulthandler.dump_traceback_later(LIFETIME, exit=True)
    asyncio.run(_trigger(pipe, identity, row, fate))


async def _trigger(pipe: Connection, identity: TaskIdentity, row: dict[str, Any], fate: Fate | None) -> None:
    loop = asyncio.get_running_loop()
    cancelled = asyncio.Event()
    ends: list[End] = []

    def act(end: End) -> None:
        ends.append(end)
        if end is End.ENDED_BY_USER:
            airflow.tell(EndedByUser())
        loop.call_soon_threadsafe(cancelled.set)

    requests = Requests(fate, act)
    airflow = Airflow(pipe, requests)
    task_runner.SUPERVISOR_COMMS = airflow  # type: ignore[assignment]
    requests.count_those_to_the_api_server()
    runner = TriggerRunner()
    made, context = _start_trigger(identity, **row) if "parameters" in row else (KubernetesPodTrigger(**row), None)
    if context is None:
        made.task_instance = task_instance(identity)  # type: ignore[assignment]
    running = asyncio.create_task(_run(runner, made, context))
    runner.triggers[1] = {"task": running, "is_watcher": False, "name": "the trigger", "events": 0}
    waiting = asyncio.create_task(cancelled.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    if ends == [End.STOPPED]:
        running.cancel()
    while not running.done():
        if ends == [End.ENDED_BY_USER]:
            runner.to_cancel.append(1)
            await runner.cancel_triggers()
        await asyncio.wait([running], timeout=CANCELLED_EVERY)
    waiting.cancel()
    others = [task for task in asyncio.all_tasks() if task.get_name().startswith("kill of pod")]
    await asyncio.gather(*others)
    fields = _fields([entry.event for entry in runner.events])
    if "state" in fields:
        airflow.tell(Ended(fields["state"]))
        await _pods_finished(cancelled, ends)
    airflow.report(Report(**fields, requests=tuple(requests.sent), met_its_fate=requests.fate is None))


async def _pods_finished(stopped: asyncio.Event, ends: list[End]) -> None:
    """Wait until the pods of tasks that have ended are finished, or the triggerer stops."""
    finishing = [task for task in asyncio.all_tasks() if task.get_name() == "kpo-async finishing of pods"]
    stopping = asyncio.create_task(stopped.wait())
    while finishing and not finishing[0].done() and ends != [End.STOPPED]:
        await asyncio.wait([*finishing, stopping], return_when=asyncio.FIRST_COMPLETED)
        if ends == [End.ENDED_BY_USER]:
            await asyncio.wait(finishing)
    stopping.cancel()


async def _run(runner: TriggerRunner, made: BaseTrigger, context: Any) -> None:
    await runner.run_trigger(1, made, context=context)


def _start_trigger(identity: TaskIdentity, parameters: dict[str, Any]) -> tuple[BaseTrigger, Any]:
    """Return the trigger that Airflow makes from the serialized DAG, and the context in which it renders it."""
    with DAG(identity.dag_id, schedule=None) as dag:
        KubernetesPodOperator(**parameters)
    serialized = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    now = datetime.now(timezone.utc)
    moments = ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date")
    dag_run: dict[str, Any] = dict.fromkeys(moments, now)
    dag_run |= {"dag_id": identity.dag_id, "run_id": identity.run_id, "run_type": "manual", "state": "running"}
    dag_run |= {"end_date": None, "consumed_asset_events": [], "partition_key": None}
    instance = TriggerRunner.create_runtime_ti(task_instance(identity), serialized, dag_run)
    arguments = instance.task.start_trigger_args
    assert arguments is not None
    assert arguments.trigger_kwargs is not None
    made = KubernetesPodStartTrigger(**arguments.trigger_kwargs["__var"])
    made.task_instance = instance  # type: ignore[assignment]
    return made, instance.get_template_context()


def _fields(events: list[Any]) -> dict[str, Any]:
    if not events:
        return {}
    if isinstance(events[0], BaseTaskEndEvent):
        return {"state": str(events[0].task_instance_state.value)}
    return {"event": json.loads(json.dumps(events[0].payload))}
