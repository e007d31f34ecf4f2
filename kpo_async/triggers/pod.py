"""`KubernetesPodTrigger` waits for one pod in the triggerer, on the watch that all triggers of a cluster share.

It fires exactly one event, at the end. Another triggerer can continue at any moment: the trigger's row in Airflow's
database holds everything that it needs, and a trigger that is cancelled does nothing to its pod. Only a user who ends
the task ends the pod (`triggers.kill`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from socket import gethostname
from typing import Any

from airflow.triggers.base import (
    BaseTrigger,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)
from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.callbacks import CallbackEvent, Callbacks, ExecutionMode, run_in_thread
from kpo_async.exceptions import (
    CallbackError,
    ConfigError,
    ForbiddenError,
    ImportPathError,
    KpoError,
    UnauthorizedError,
    XComError,
    clip,
)
from kpo_async.hooks.airflow import (
    FAILING_IN_TRIGGERER_RETRIES,
    TRIGGERS_ARE_KILLED,
    AirflowFailException,
    AirflowSkipException,
    deferral_settles_after,
    pull_xcom,
    push_xcom,
    task_state,
)
from kpo_async.hooks.cluster_hook import source_of_task
from kpo_async.hooks.heartbeat import renew_lease_on_exchanges
from kpo_async.hooks.log_files import warning_without_worker, worker_ends_task
from kpo_async.hooks.masking import mask_secrets_of
from kpo_async.hooks.metrics import publishing
from kpo_async.hooks.settings import diagnosis_is_pushed
from kpo_async.hooks.sync_client import core_v1
from kpo_async.import_path import from_import_path
from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.lease import lease
from kpo_async.logs.channel import wait_until_read
from kpo_async.logs.plan import LineFormat
from kpo_async.pod_task import Outcome, OutcomeStatus, PodDiagnosis, PodTask
from kpo_async.triggers.ended_pods import EndedPod, finish_once_stored
from kpo_async.triggers.kill import DEFERRED, kill, warm_up

log = logging.getLogger(__name__)

POD_NAME, RETURN_VALUE, DIAGNOSIS = "pod_name", "return_value", "pod_diagnosis"
VERDICT = "pod_verdict"
"""Key of the XCom in which a triggerer that deletes the pod before the task has ended saves the outcome, for the next
triggerer if it is killed."""
OF_THIS_HOST = (ConfigError, ForbiddenError, ImportPathError, UnauthorizedError)
"""Errors of what a triggerer has or may, which a worker may have and may."""
DIRECTIVES = {"AirflowSkipException": AirflowSkipException, "AirflowFailException": AirflowFailException}
"""Exceptions by which a callback tells Airflow how the task ends, by category of the outcome."""
STATUS = {
    OutcomeStatus.SUCCEEDED: "success",
    OutcomeStatus.TIMED_OUT: "timeout",
    OutcomeStatus.NOT_STARTED: "failed",
    OutcomeStatus.ERROR: "error",
}
"""The event's `status`, with the incumbent's values; any other outcome is "failed"."""


class KubernetesPodTrigger(BaseTrigger):
    """Waits for one pod. `pod_task` is `PodTask.to_dict()`.

    Raises `IncompatibleError` when an incompatible version of this library wrote it.
    """

    def __init__(self, pod_task: Mapping[str, Any]) -> None:
        super().__init__()
        self.pod_task = PodTask.from_dict(pod_task)
        self.settled_at = self.pod_task.deferred_at + deferral_settles_after()
        """When the scheduler takes the event without failing the task; see `deferral_settles_after`."""
        self.starts_on_worker = True
        """Whether a worker has begun the try. Where none has, its log file says nothing."""

    def serialize(self) -> tuple[str, Json]:
        """Return the class's path and its only argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"pod_task": self.pod_task.to_dict()}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Stream the logs while the pod runs, then fire the one event that ends or resumes the task."""
        if self.task_instance is not None:
            warm_up(self.task_instance)
        renew_lease_on_exchanges()
        async with publishing():
            event = await self._wait_and_end()
        await wait_until_read()
        await lease().held()
        yield event

    async def _wait_and_end(self) -> TriggerEvent:
        try:
            task = await self._task()
            await mask_secrets_of(task.masked_connections, task.masked_variables)
            source = await self._source()
            callbacks, formatter = await run_in_thread(_import_callables, task, source, self._context())
            async with connect(source) as client:
                # `created` keeps `pod_task` up to date.
                task, outcome = await lifecycle.see_through(client, task, callbacks, self, formatter=formatter)
                if task.end_from_trigger and outcome.status == OutcomeStatus.LOST:
                    outcome = await self._load_verdict() or outcome
                fails = not (outcome.succeeded or task.skips(outcome))
                # `airflow dags test` gives a trigger no task instance, and knows no event that ends a task.
                may_end = task.end_from_trigger and self.task_instance is not None
                ends_here = may_end and lifecycle.cause_of_next(task, outcome) is None
                if ends_here and outcome.logs_complete and (self._may_fail or not fails):
                    return await self._end(client, source, outcome, callbacks)
        except KpoError as error:
            outcome = _outcome(error)
        except Exception as error:  # of a user's XCom backend: Airflow would only say "Trigger failure"
            log.exception("The trigger failed, a worker ends the task:")
            outcome = _outcome(error)
        return await self._resume(outcome)

    async def on_kill(self) -> None:
        """End the pod of a task that its user ended."""
        await kill(self.pod_task, self.task_instance)

    async def cleanup(self) -> None:
        """Do the work of `on_kill` where Airflow has none, before 3.3."""
        if not TRIGGERS_ARE_KILLED and self.task_instance is not None:
            await self.on_kill()

    async def is_alive(self) -> bool:
        """See `lifecycle.attempts.Try`. False when Airflow does not answer: the task resumes, and a worker asks."""
        if self.task_instance is None:
            return True
        try:
            state = await task_state(self.task_instance)
        except Exception as error:  # whatever Airflow's channel raises
            log.warning("Airflow does not say whether the task is still deferred: %r", error)
            return False
        return state == DEFERRED and not (self.pod_task.end_from_trigger and await self._load_verdict())

    async def creates(self, manifest: Json) -> None:
        """See `lifecycle.attempts.Try`. Should the trigger end now, the next one or the reconciler finds the pod."""

    async def created(self, task: PodTask, pod: Json) -> None:
        """Follow the pod of another attempt from now on: its name goes into the XCom, and a kill is its."""
        self.pod_task = task
        if self.task_instance is not None:
            try:
                await push_xcom(self.task_instance, POD_NAME, task.name)
            except Exception as error:  # whatever Airflow's channel or an XCom backend raises
                log.warning("The XCom %s has the name of the pod before pod %s: %r", POD_NAME, task.name, error)

    async def _task(self) -> PodTask:
        """Return the task as this host can do it: a worker ends it where its page would not show this trigger's log."""
        task = self.pod_task
        if self.task_instance is None:
            return task
        if not self.starts_on_worker and (warning := await run_in_thread(warning_without_worker)):
            log.warning("%s", warning)
        reason = await run_in_thread(worker_ends_task, self.task_instance, self.starts_on_worker)
        if reason is None:
            return task
        if task.end_from_trigger:
            log.warning("A worker ends this task in spite of end_from_trigger: %s", reason)
        return replace(task, end_from_trigger=False, identity=None, worker_shows_log=True)

    @property
    def _may_fail(self) -> bool:
        """Whether the triggerer may end the task if it fails."""
        return FAILING_IN_TRIGGERER_RETRIES and not self.pod_task.worker_ends_failure

    def _context(self) -> Json:
        """Return the part of Airflow's context that a trigger knows, for callbacks."""
        ti = self.task_instance
        return {} if ti is None else {"ti": ti, "task_instance": ti, "run_id": ti.run_id}

    async def _source(self) -> ClusterSource:
        return await source_of_task(self.pod_task)

    async def _end(self, client: Client, source: ClusterSource, outcome: Outcome, callbacks: Callbacks) -> TriggerEvent:
        """Do what a resumed worker would do, and return the event that ends the task.

        The pod is left until Airflow has stored the end, so that a triggerer that is killed before loses nothing. A
        function of the user's that is called after the pod is gone needs it gone before. A worker ends a task that has
        failed only now, as by an invalid result, if the triggerer may not.
        """
        task = self.pod_task
        leave = partial(self._leave, source)
        finishes = callbacks.wants(CallbackEvent.POD_CLEANUP)
        try:
            async with lifecycle.finishing(
                client, task, outcome, callbacks, finish=lifecycle.finish if finishes else leave
            ):
                result = await lifecycle.collect(client, task, outcome)
                ends_well = outcome.succeeded and not task.skips(outcome)
                length = _mapped_length(result) if task.mapped_over and ends_well else None
                if result is not None:
                    if task.multiple_outputs and ends_well and not isinstance(result, dict):
                        raise XComError(
                            f"the result is a {type(result).__name__}, multiple_outputs needs a JSON object"
                        )
                    await self._push(result, length)
                await self._push_diagnosis(outcome)
                if finishes and outcome.status != OutcomeStatus.LOST:
                    await self._save_verdict(outcome)
        except KpoError as error:
            outcome = replace(_outcome(error), logs_complete=outcome.logs_complete, cursors=outcome.cursors)
            if not self._may_fail or directive_of(error) is not None:
                return await self._resume(outcome)
        if task.skips(outcome):
            log.info("Pod %s/%s exited with %s: skipping the task", task.namespace, task.name, outcome.exit_code)
            return TaskSkippedEvent()
        if outcome.succeeded:
            return TaskSuccessEvent()
        log.error("%s", outcome.message)
        return TaskFailedEvent()

    async def _leave(self, source: ClusterSource, pod: PodHandle, policy: object, *, succeeded: bool) -> None:
        """Leave the pod until Airflow has stored the end of its task."""
        task, action = self.pod_task, str(self.pod_task.on_finish_action)
        finish_once_stored(source, EndedPod(self.task_instance, task, succeeded))
        log.info("Pod %s: on_finish_action=%r once Airflow has stored the end of its task", pod, action)

    async def _save_verdict(self, outcome: Outcome) -> None:
        """Save the outcome: between the pod's deletion and Airflow's storing the event, nothing else has it."""
        if self.task_instance is not None:
            verdict = replace(outcome, result=None, result_known=True, logs_complete=True, cursors={})
            saved = {"uid": self.pod_task.uid, "owner": self.pod_task.owner, "outcome": verdict.to_dict()}
            await push_xcom(self.task_instance, VERDICT, saved)

    async def _load_verdict(self) -> Outcome | None:
        """Return the outcome that a triggerer saved for this pod and was killed before it was stored."""
        if self.task_instance is None:
            return None
        saved = await pull_xcom(self.task_instance, VERDICT)
        if not isinstance(saved, dict):
            return None
        # Of another attempt, too: the trigger's row has the first one's uid.
        if saved.get("uid") != self.pod_task.uid and saved.get("owner", "") != (self.pod_task.owner or None):
            return None
        log.info("A triggerer was killed while it ended this task: using the verdict that it saved")
        return Outcome.from_dict(saved["outcome"])

    async def _push(self, result: Any, mapped_length: int | None) -> None:
        """Set the XComs of a result. Raises `XComError` for one that Airflow does not take."""
        several = self.pod_task.multiple_outputs and isinstance(result, dict)
        for key, value in {**(result if several else {}), RETURN_VALUE: result}.items():
            try:
                await push_xcom(self.task_instance, key, value, mapped_length if key == RETURN_VALUE else None)
            except Exception as error:  # of a reserved or impossible key, too, or of a user's XCom backend
                raise XComError(f"Airflow does not store the XCom {key!r}: {type(error).__name__}: {error}") from error

    async def _push_diagnosis(self, outcome: Outcome) -> None:
        task = self.pod_task
        if not outcome.succeeded and not task.skips(outcome) and self.task_instance is not None:
            await push_diagnosis(self.task_instance, outcome.diagnosis_of(task))

    async def _resume(self, outcome: Outcome) -> TriggerEvent:
        """Return the event with which a worker ends the task."""
        await self._wait_for_scheduler()
        return TriggerEvent(self._event(outcome))

    async def _wait_for_scheduler(self) -> None:
        """Delay the event while the scheduler would fail the task for it."""
        remaining = self.settled_at - time.time()
        if remaining > 0:
            await asyncio.sleep(min(remaining, deferral_settles_after()))

    def _event(self, outcome: Outcome) -> Json:
        task = self.pod_task
        return {
            **task.user_event,  # first: what a worker resumes with is not the user's to replace
            "status": STATUS.get(outcome.status, "failed"),
            "name": task.name,
            "namespace": task.namespace,
            "uid": task.uid,
            "message": outcome.message,
            "outcome": outcome.storable().to_dict(),
            "pod_owner": task.owner,
            "pod_attempt": task.attempt,
            "pod_disruptions": task.disruptions,
        }


async def push_diagnosis(task_instance: Any, diagnosis: PodDiagnosis) -> None:
    """Set the XCom `pod_diagnosis`, unless the deployment wants none."""
    try:
        if diagnosis_is_pushed():
            await push_xcom(task_instance, DIAGNOSIS, diagnosis.to_dict())
    except Exception as error:  # of a user's XCom backend, too: the verdict does not depend on it
        log.warning("The XCom %s is not set: %r", DIAGNOSIS, error)


def _mapped_length(result: Any) -> int:
    """Return how many instances of a task are mapped over a result. Raises `XComError`, in Airflow's words."""
    if result is None:
        raise XComError("did not push XCom for task mapping")
    if not isinstance(result, (list, dict)):
        raise XComError(f"unmappable return type {type(result).__qualname__!r}")
    return len(result)


def log_traceback_of_callback(error: Exception) -> None:
    """Log where a user's callback raised, if that is what the error says."""
    if isinstance(error, CallbackError):
        log.error("Traceback of the callback's error, for its author:", exc_info=error.__cause__)


def directive_of(error: Exception) -> str | None:
    """Return the exception by which a callback tells Airflow how the task ends; None for any other error.

    Only a worker can raise it. An `Outcome` has it for a category.
    """
    cause = error.__cause__ if isinstance(error, CallbackError) else None
    return next((name for name, kind in DIRECTIVES.items() if isinstance(cause, kind)), None)


def _outcome(error: Exception) -> Outcome:
    """Return the outcome of a pod that cannot be followed or finished, and say where if that is why."""
    failed_callback = isinstance(error, CallbackError)
    log_traceback_of_callback(error)
    # A failed callback ends its pod at once, wherever that is: a worker that emitted its log would wait for its end.
    message = str(error) if isinstance(error, KpoError) else f"the trigger failed: {error!r}"
    if isinstance(error, OF_THIS_HOST):
        message = f"In the triggerer on host {gethostname()}: {message}"
    category = directive_of(error) or type(error).__name__
    return Outcome(OutcomeStatus.ERROR, category=category, message=clip(message), logs_complete=failed_callback)


def _import_callables(task: PodTask, source: ClusterSource, context: Json) -> tuple[Callbacks, LineFormat | None]:
    """Import the task's callbacks and log formatter. Raises `ImportPathError` naming what this host lacks."""
    classes = [from_import_path(path) for path in task.callbacks]
    make_client = partial(core_v1, source)
    callbacks = Callbacks(
        classes, mode=ExecutionMode.ASYNC, make_client=make_client, context=context, deadline=task.deadline
    )
    formatter = from_import_path(task.logs.formatter) if task.logs and task.logs.formatter else None
    return callbacks, formatter
