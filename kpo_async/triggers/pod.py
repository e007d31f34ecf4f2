"""`KubernetesPodTrigger`: sees one pod through in the triggerer, on the watch that all of them share.

It fires exactly one event, when the story is over. Killing the triggerer changes nothing: the row in Airflow's database
says all that the next one needs. Only a user who ends the task ends the pod (`on_kill`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from airflow.triggers.base import (
    BaseTaskEndEvent,
    BaseTrigger,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)
from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.callbacks import Callbacks, ExecutionMode
from kpo_async.exceptions import KpoError
from kpo_async.hooks.airflow import (
    FAILING_IN_TRIGGERER_RETRIES,
    TRIGGERS_ARE_KILLED,
    deferral_settles_after,
    pull_xcom,
    push_xcom,
    task_state,
)
from kpo_async.hooks.kubernetes import resolve
from kpo_async.hooks.sync_client import core_v1
from kpo_async.import_path import from_import_path
from kpo_async.json_types import Json
from kpo_async.kube.auth.config import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.logs.channel import wait_until_read
from kpo_async.logs.plan import LineFormat
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask

log = logging.getLogger(__name__)

DEFERRED = "deferred"
RETURN_VALUE = "return_value"
VERDICT = "pod_verdict"
"""XCom of a task that the triggerer ends: what it is about to tell Airflow, for the next one if this one is killed."""
STATUS = {
    OutcomeStatus.SUCCEEDED: "success",
    OutcomeStatus.TIMED_OUT: "timeout",
    OutcomeStatus.NOT_STARTED: "failed",
    OutcomeStatus.ERROR: "error",
}
"""The event's `status`, in the incumbent's words; what is not named is "failed"."""


class KubernetesPodTrigger(BaseTrigger):
    """Waits for one pod. `pod_task` is a `handover.PodTask` as a dict.

    Raises `KpoError` when another version of this library wrote it.
    """

    def __init__(self, pod_task: Mapping[str, Any]) -> None:
        super().__init__()
        self.pod_task = PodTask.from_dict(pod_task)

    def serialize(self) -> tuple[str, Json]:
        """The class's path and its only argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"pod_task": self.pod_task.to_dict()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Show the logs while the pod runs, then fire the one event that ends or resumes the task."""
        event = await self._story()
        await wait_until_read()
        yield event

    async def _story(self) -> TriggerEvent:
        task = self.pod_task
        try:
            source = await self._source()
            callbacks, formatter = await asyncio.to_thread(_users_code, task, source)
            async with connect(source) as client:
                outcome = await lifecycle.wait(client, task, callbacks, formatter=formatter)
                if task.end_from_trigger and outcome.status == OutcomeStatus.LOST:
                    outcome = await self._left_verdict() or outcome
                fails = not (outcome.succeeded or task.skips(outcome))
                if task.end_from_trigger and (FAILING_IN_TRIGGERER_RETRIES or not fails):
                    return await self._end(client, outcome, callbacks)
        except KpoError as error:
            outcome = Outcome(
                OutcomeStatus.ERROR, category=type(error).__name__, message=str(error), logs_complete=False
            )
        await self._settle()
        return TriggerEvent(self._event(outcome))

    async def on_kill(self) -> None:
        """A user ended the task, so end its pod. Also called when another triggerer took over, where it must not.

        Airflow 3.3 takes a trigger that was handed to another triggerer for one that a user removed
        (apache/airflow#73454); the task's state tells which it was.
        """
        if await task_state(self.task_instance) == DEFERRED:
            return
        async with connect(await self._source()) as client:
            await lifecycle.kill(client, self.pod_task)

    async def cleanup(self) -> None:
        """Airflow before 3.3 has no `on_kill`; its triggers learn of a kill here."""
        if not TRIGGERS_ARE_KILLED and self.task_instance is not None:
            await self.on_kill()

    async def _source(self) -> ClusterSource:
        source, _ = await resolve(self.pod_task.cluster)
        return source

    async def _end(self, client: Client, outcome: Outcome, callbacks: Callbacks) -> BaseTaskEndEvent:
        """Do here what a worker would do, and end the task."""
        task = self.pod_task
        try:
            async with lifecycle.ending(client, task, outcome, callbacks):
                result = await lifecycle.collect(client, task, outcome)
                # While the pod is there: a triggerer that is killed in between loses nothing.
                if result is not None:
                    await self._push(result)
                if outcome.status != OutcomeStatus.LOST:
                    await self._leave_verdict(outcome)
        except KpoError as error:
            outcome = Outcome(OutcomeStatus.ERROR, message=str(error))
        if outcome.succeeded:
            return TaskSuccessEvent()
        if task.skips(outcome):
            log.info("Pod %s/%s exited with %s: skipping the task", task.namespace, task.name, outcome.exit_code)
            return TaskSkippedEvent()
        log.error("%s", outcome.message)
        return TaskFailedEvent()

    async def _leave_verdict(self, outcome: Outcome) -> None:
        """Once the pod is deleted, and until Airflow has stored the event, only this says how the task ended."""
        if self.task_instance is not None:
            bare = replace(outcome, result=None, result_known=True, logs_complete=True, cursors={})
            await push_xcom(self.task_instance, VERDICT, {"uid": self.pod_task.uid, "outcome": bare.to_dict()})

    async def _left_verdict(self) -> Outcome | None:
        """What a triggerer that was killed was about to tell about this pod."""
        if self.task_instance is None:
            return None
        left = await pull_xcom(self.task_instance, VERDICT)
        if not isinstance(left, dict) or left.get("uid") != self.pod_task.uid:
            return None
        log.info("The pod had ended, and a triggerer was killed before it could say so: its verdict is taken over")
        return Outcome.from_dict(left["outcome"])

    async def _push(self, result: Any) -> None:
        if self.pod_task.multiple_outputs and isinstance(result, dict):
            for key, value in result.items():
                await push_xcom(self.task_instance, key, value)
        await push_xcom(self.task_instance, RETURN_VALUE, result)

    async def _settle(self) -> None:
        """Hold the event back while Airflow would lose the task over it; see `deferral_settles_after`."""
        remaining = self.pod_task.deferred_at + deferral_settles_after() - time.time()
        if remaining > 0:
            await asyncio.sleep(min(remaining, deferral_settles_after()))

    def _event(self, outcome: Outcome) -> Json:
        task = self.pod_task
        return {
            "status": STATUS.get(outcome.status, "failed"),
            "name": task.name,
            "namespace": task.namespace,
            "uid": task.uid,
            "message": outcome.message,
            "outcome": outcome.storable().to_dict(),
            **task.user_event,
        }


def _users_code(task: PodTask, source: ClusterSource) -> tuple[Callbacks, LineFormat | None]:
    """The task's callbacks and log formatter, imported. Raises `ImportPathError` naming what this host lacks."""
    classes = [from_import_path(path) for path in task.callbacks]
    callbacks = Callbacks(classes, mode=ExecutionMode.ASYNC, make_client=partial(core_v1, source))
    formatter = from_import_path(task.logs.formatter) if task.logs and task.logs.formatter else None
    return callbacks, formatter
