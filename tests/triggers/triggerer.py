"""A triggerer's inner process for tests: Airflow's own `TriggerRunner`, and its supervisor as the test wants it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, GetXCom, SetXCom, TaskStatesResult, XComResult

from kpo_async.pod.names import TaskIdentity
from kpo_async.pod_task import PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
from tests.airflow_versions import TaskInstanceDTO


def task_instance(task: TaskIdentity) -> TaskInstanceDTO:
    """The task instance that a triggerer gives to a trigger."""
    return TaskInstanceDTO(
        id=uuid.UUID(task.id),
        dag_version_id=uuid.uuid4(),
        dag_id=task.dag_id,
        task_id=task.task_id,
        run_id=task.run_id,
        try_number=task.try_number,
        map_index=task.map_index,
        pool_slots=1,
        queue="default",
        priority_weight=1,
    )


@dataclass
class Supervisor:
    """Answers the requests of triggers: the task is in `state`, and an answer takes `delay` seconds."""

    state: str | None = "deferred"
    delay: float = 0.0
    asked: list[Any] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)

    async def was_asked(self) -> bool:
        return bool(self.asked)

    def send(self, message: Any) -> Any:
        """Store an XCom, or return it."""
        if isinstance(message, SetXCom):
            self.xcoms[message.key] = message.value
            return None
        assert isinstance(message, GetXCom)
        return XComResult(key=message.key, value=self.xcoms.get(message.key))

    async def asend(self, message: Any) -> Any:
        assert isinstance(message, GetTaskStates)
        self.asked.append(message)
        await asyncio.sleep(self.delay)
        assert message.task_ids is not None
        assert message.run_ids is not None
        index = message.map_index
        keys = [task_id if index is None or index < 0 else f"{task_id}_{index}" for task_id in message.task_ids]
        states = {} if self.state is None else {message.run_ids[0]: dict.fromkeys(keys, self.state)}
        return TaskStatesResult(task_states=states)


class Triggerer:
    """Runs one trigger as Airflow does."""

    def __init__(self, task: PodTask, identity: TaskIdentity) -> None:
        self.runner = TriggerRunner()
        trigger = KubernetesPodTrigger(task.to_dict())
        trigger.task_instance = task_instance(identity)  # type: ignore[assignment]
        running = asyncio.create_task(self._run(trigger), name="the trigger")
        self.runner.triggers[1] = {"task": running, "is_watcher": False, "name": "the trigger", "events": 0}
        self.task = running

    async def _run(self, trigger: KubernetesPodTrigger) -> None:
        await self.runner.run_trigger(1, trigger)

    async def cancel_until_it_has_ended(self, every: float = 0.1) -> None:
        """Cancel the trigger again and again, as Airflow 3.3 does each second when its task is over."""
        while not self.task.done():
            self.runner.to_cancel.append(1)
            await self.runner.cancel_triggers()
            await asyncio.wait([self.task], timeout=every)

    async def stop(self) -> None:
        """End the trigger as a triggerer does that stops."""
        self.task.cancel()
        await asyncio.wait([self.task])


async def pods_finished() -> None:
    """Wait until the pods of tasks whose ends are stored are deleted, or marked as done."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "kpo-async finishing of pods"))


@contextmanager
def supervised(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> Iterator[Supervisor]:
    """Let triggers talk to this supervisor."""
    with monkeypatch.context() as patch:
        patch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
        yield supervisor
