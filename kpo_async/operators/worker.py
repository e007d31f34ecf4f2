"""A task on a worker: create its pod and defer, or wait for the pod here, or finish after the trigger has fired.

`lifecycle` does the work. This module adds Airflow to it: identity and deadline from the context, XComs, Airflow's
exceptions, and the user's kill, which arrives as a signal while the event loop runs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from kpo_async import lifecycle
from kpo_async.api_types import pod_from_dict
from kpo_async.callbacks import CallbackEvent, Callbacks, ExecutionMode, run_in_thread
from kpo_async.exceptions import CallbackTimeoutError, KpoError, PodError, ServerError, UnreachableError
from kpo_async.hooks.airflow import AirflowException, AirflowSkipException, AirflowTaskTimeout, task_state
from kpo_async.hooks.log_files import worker_shows_log
from kpo_async.hooks.metrics import publishing
from kpo_async.hooks.settings import diagnosis_is_pushed, quota_time_limit
from kpo_async.hooks.sync import outside_event_loop
from kpo_async.hooks.sync_client import core_v1
from kpo_async.json_types import Json
from kpo_async.kube.client import Client, connect
from kpo_async.models import to_dict
from kpo_async.operators.attributes import is_users_own
from kpo_async.operators.killable_run import KillableRun
from kpo_async.operators.manifest import identity, source_of_operator
from kpo_async.operators.on_demand import OnDemandAttributes
from kpo_async.operators.pod_task import callables_are_local, callback_classes, for_deferral, owner_of, pod_task_of
from kpo_async.pod.again import attempt_of
from kpo_async.pod.status import assess
from kpo_async.pod_task import Outcome, OutcomeStatus, PodDiagnosis, PodTask
from kpo_async.triggers.pod import DIAGNOSIS, DIRECTIVES, KubernetesPodTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ALARM_GRACE = 30.0
"""Seconds between the deadline that the event loop keeps and Airflow's own alarm, which stays as a last resort."""
RUNNING = "running"
DEFER_GRACE = 60.0
"""Seconds between the deadline that the trigger keeps and Airflow's time-out of the deferral, likewise."""


class TaskRun:
    """One run of a task on a worker, in one event loop, which fetches the connection once.

    Airflow enters an operator at one of four points, and each of them has its method here: call one, once. They raise
    `AirflowException` for errors of this library, and after a kill. However a run ends, it leaves no pod that another
    process would not look after: see `_see_to_pod`.
    """

    client: Client
    callbacks: Callbacks

    def __init__(self, operator: OnDemandAttributes, context: Context) -> None:
        self.operator = operator
        self.context = context
        timeout, now = operator.execution_timeout, time.time()
        self.deadline = None if timeout is None else now + timeout.total_seconds()
        """When Airflow's alarm for the execution_timeout rings, which starts anew in each run. Seconds since epoch."""
        began = getattr(context.get("ti"), "start_date", None)
        since = now if began is None else began.timestamp()
        self._try_deadline = None if timeout is None else since + timeout.total_seconds()
        """When the execution_timeout has passed since the try began, however often it was deferred."""
        self._created: Json | None = None
        """The manifest of a pod that may have been created, until it is known."""
        self._pod_task: PodTask | None = None
        """The pod, from when it is known until it is finished."""
        self._pod: Json | None = None
        """The same pod as the API server had it at first, if it was created or found in this run."""

    @outside_event_loop
    def start(self) -> NoReturn:
        """Create the pod and defer."""
        with self._killable_run() as run:
            task = run(self._create(self._manifest()))
        self._defer(task)

    def _defer(self, task: PodTask) -> NoReturn:
        log.info("Deferring the task: a triggerer waits for pod %s/%s and continues the log", task.namespace, task.name)
        now = time.time()
        self.operator.defer(
            trigger=KubernetesPodTrigger(for_deferral(self.operator, task, now).to_dict()),
            method_name="trigger_reentry",
            timeout=None if task.deadline is None else max(0.0, task.deadline - now) + DEFER_GRACE,
        )

    @outside_event_loop
    def run_to_completion(self) -> Any:
        """Create the pod, wait for its end in this process, and return the task's result."""
        with self._killable_run() as run:
            return run(self._create_and_wait(self._manifest()))

    def owns(self, event: Mapping[str, Any]) -> bool:
        """Whether the event was fired for this try: a task that is cleared while it resumes is given the old event."""
        # Triggers of version 1.1 and older do not say.
        return event.get("pod_owner") in (None, "", identity(self.context).owner)

    @outside_event_loop
    def resume(self, event: Mapping[str, Any]) -> Any:
        """Finish the task after its trigger has fired `event`, and return the task's result.

        Where another pod is to follow, which the triggerer could not create, create it and defer again.
        """
        outcome, task = Outcome.from_dict(event["outcome"]), self._resumed(event)
        again = lifecycle.cause_of_next(task, outcome) is not None
        with self._killable_run() as run:
            self._pod_task = task
            if not again or not run(self._create_again(task, outcome, self._manifest())):
                return run(self._resume(task, event, outcome))
        self._defer(self._pod_task)

    def _resumed(self, event: Mapping[str, Any]) -> PodTask:
        """Return the task that the trigger which fired `event` has followed."""
        return pod_task_of(
            self.operator,
            self.context,
            {"metadata": {"name": event["name"], "namespace": event["namespace"], "uid": event["uid"]}},
            deadline=self._try_deadline,
            attempt=event.get("pod_attempt", 1),
            disruptions=event.get("pod_disruptions", 0),
        )

    @outside_event_loop
    def abandon(self) -> None:
        """See to the pod of a task whose trigger broke or timed out: nothing else will. Errors are logged."""
        try:
            with self._killable_run() as run:
                self._created = self._manifest()
                run(self._see_to_pod())
        except AirflowException as error:
            log.warning("The pod of this task may be left: %s", error)

    @contextmanager
    def _killable_run(self) -> Iterator[KillableRun]:
        """Open the event loop of this run, for `operator.on_kill` to interrupt, and raise Airflow's exceptions."""
        with KillableRun() as run:
            self.operator.current_run = run
            self._postpone_alarm()
            try:
                yield run
            except (asyncio.CancelledError, KeyboardInterrupt):
                run.clean_up(self._see_to_pod(killed=True))
                raise AirflowException("The task was killed") from None
            except BaseException as error:
                if self._pod_task or (self._created and _may_have_created(error)):
                    run.clean_up(self._see_to_pod())
                if isinstance(error, CallbackTimeoutError):
                    raise AirflowTaskTimeout(str(error)) from error
                if isinstance(error, KpoError):
                    raise AirflowException(str(error)) from error
                raise
            finally:
                self.operator.current_run = None

    async def _see_to_pod(self, *, killed: bool = False) -> None:
        """Kill or finish the pod of a task that ends here, before it has finished its pod. Errors are logged."""
        try:
            source, _ = await source_of_operator(self.operator)
            async with connect(source) as client:
                if (task := self._pod_task) is not None:
                    pod = lifecycle.pod_of(client, task)
                    if killed:
                        await lifecycle.end(pod, task, owner=task.owner)
                    else:
                        await lifecycle.finish(pod, task, succeeded=False)
                elif self._created is not None:
                    owner = await owner_of(self.operator, self.context)
                    await (lifecycle.kill_all if killed else lifecycle.abandon)(client, self._created, owner)
        except KpoError as error:
            log.warning("The pod of this task may be left: %s", error)

    def _manifest(self) -> Json:
        """Return the manifest as the operator's class, which may be a user's, builds it: in no running event loop."""
        try:
            given = self.operator.given_manifest
            manifest: Json = to_dict(self.operator.build_pod_request_obj(self.context) if given is None else given)
        except AttributeError as error:
            if not isinstance(error.obj, dict):
                raise
            raise AirflowException(
                f"{type(self.operator).__name__}.build_pod_request_obj reads .{error.name} of a plain dict: the "
                "manifest is not a V1Pod here. Use pod['metadata']['labels'], or make a model of it: "
                "kpo_async.models.to_v1pod(pod)"
            ) from error
        return manifest

    def _postpone_alarm(self) -> None:
        """Set back the alarm by which Airflow enforces the execution_timeout, if Airflow has set it.

        The event loop keeps the deadline itself and deletes the pod. The alarm raises an exception at whatever line the
        main thread happens to be; there, the event loop may swallow it, or may not be able to delete the pod any more.
        """
        airflows_alarm, _ = signal.getitimer(signal.ITIMER_REAL)
        if self.deadline is not None and airflows_alarm:
            signal.setitimer(signal.ITIMER_REAL, max(0.0, self.deadline - time.time()) + ALARM_GRACE)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        """Set `client` and `callbacks`; the callbacks for a new client have been called."""
        source, _ = await source_of_operator(self.operator)
        self.callbacks = Callbacks(
            callback_classes(self.operator),
            mode=ExecutionMode.SYNC,
            make_client=partial(core_v1, source),
            operator=self.operator,
            context=self.context,
            deadline=self.deadline,
        )
        async with publishing(gauges=False), connect(source) as self.client:
            await self.callbacks.client_created()
            yield

    async def _create(self, manifest: Json) -> PodTask:
        async with self._connected():
            return await self._ensure_pod(manifest)

    async def _create_and_wait(self, manifest: Json) -> Any:
        async with self._connected():
            task = await self._ensure_pod(manifest)
            task, outcome = await lifecycle.see_through(
                self.client, task, self.callbacks, self, formatter=self.operator.log_formatter, pod=self._pod
            )
            return await self._finish(task, outcome)

    async def _ensure_pod(self, manifest: Json) -> PodTask:
        """Create, find or adopt the task's pod, and push its name."""
        self._created = manifest = await self.callbacks.manifest_created(manifest)
        self.operator.sent_manifest = manifest
        owner = await owner_of(self.operator, self.context)
        try:
            pod = await self._ensure_pod_within_quota(manifest, owner)
        except PodError as error:
            name = f"{manifest['metadata']['namespace']}/{manifest['metadata']['name']}"
            self._push_diagnosis(PodDiagnosis(error.category, str(error), name))
            raise
        attempt, disruptions = attempt_of(pod, owner.task.try_number)
        task = pod_task_of(
            self.operator,
            self.context,
            pod,
            deadline=self._try_deadline,
            attempt=attempt,
            disruptions=disruptions,
        )
        self._created, self._pod_task, self._pod, self.operator.known_pod = None, task, pod, pod
        if task.logs is not None:
            for mistake in task.logs.mistakes(assess(pod_from_dict(pod), task.base_container)):
                self.operator.log.warning("%s", mistake)
        self.context["ti"].xcom_push(key="pod_name", value=task.name)
        self.context["ti"].xcom_push(key="pod_namespace", value=task.namespace)
        await self.callbacks.pod_event(CallbackEvent.POD_CREATION, pod)
        return task

    async def _ensure_pod_within_quota(self, manifest: Json, owner: lifecycle.Owner) -> Json:
        limit = quota_time_limit()
        if self.deadline is not None:
            limit = min(limit, self.deadline - time.time())
        return await lifecycle.ensure_pod_within_quota(self.client, manifest, owner, time_limit=limit)

    async def is_alive(self) -> bool:
        """See `lifecycle.attempts.Try`. Where Airflow cannot be asked, the signal of a kill will say so."""
        try:
            return await task_state(self.context["ti"]) == RUNNING
        except Exception as error:  # no channel outside of a task or before Airflow 3.2, or whatever it raises
            log.debug("Airflow does not say whether the task still runs: %r", error)
            return True

    async def creates(self, manifest: Json) -> None:
        """Remember that another pod may have been created, should the run end now."""
        self._created, self._pod_task = manifest, None

    async def created(self, task: PodTask, pod: Json) -> None:
        """Follow the pod of another attempt from now on."""
        self._created, self._pod_task, self.operator.known_pod = None, task, pod
        self.context["ti"].xcom_push(key="pod_name", value=task.name)

    async def _create_again(self, task: PodTask, outcome: Outcome, manifest: Json) -> bool:
        """Create the pod of the next attempt from the operator's `manifest`, and return whether that was done."""
        async with self._connected():
            manifest = await self.callbacks.manifest_created(manifest)
            (await owner_of(self.operator, self.context)).mark(manifest["metadata"])
            manifest = lifecycle.manifest_of_attempt(manifest, task)
            await self._show_log(task, outcome)
            found = await lifecycle.next_attempt(self.client, task, outcome, manifest, self.callbacks, self)
        if found is None:
            self._created, self._pod_task = None, task
        return found is not None

    async def _show_log(self, task: PodTask, outcome: Outcome) -> None:
        """Emit what the task's page would miss of the pod's log."""
        if await run_in_thread(worker_shows_log, self.context["ti"]):
            emit = lifecycle.emit_whole_log
        elif not outcome.logs_complete:
            emit = lifecycle.emit_remaining_logs
        else:
            return
        # Lines that the trigger has emitted were given to the callbacks.
        callbacks = Callbacks([]) if outcome.logs_complete else self.callbacks
        await emit(self.client, task, outcome, callbacks, formatter=self.operator.log_formatter)

    async def _resume(self, task: PodTask, event: Mapping[str, Any], outcome: Outcome) -> Any:
        async with self._connected():
            if self.operator.known_pod is None and _may_read_pod(self.operator):
                pod = await lifecycle.last_pod(self.client, task)
                self.operator.known_pod = pod if "spec" in pod else None
            await self._call_callbacks_of_resumption(task, event, outcome)
            await self._show_log(task, outcome)
            return await self._finish(task, outcome)

    async def _call_callbacks_of_resumption(self, task: PodTask, event: Mapping[str, Any], outcome: Outcome) -> None:
        if self.callbacks.wants(CallbackEvent.OPERATOR_RESUMING):
            pod = await lifecycle.last_pod(self.client, task)
            await self.callbacks.pod_event(CallbackEvent.OPERATOR_RESUMING, pod, event=dict(event))
        started = outcome.exit_code is not None
        if not started or not self.callbacks.wants(CallbackEvent.POD_STARTING):
            return
        if callables_are_local(self.operator):
            await self.callbacks.pod_event(CallbackEvent.POD_STARTING, await lifecycle.last_pod(self.client, task))
        elif self.callbacks.need_worker(CallbackEvent.POD_STARTING):
            await self.callbacks.left_to_worker(CallbackEvent.POD_STARTING, await lifecycle.last_pod(self.client, task))

    async def _finish(self, task: PodTask, outcome: Outcome) -> Any:
        """Collect the result, finish the pod, and end the task: return the result, or raise Airflow's exception."""
        skips = task.skips(outcome)
        ends_well = outcome.succeeded and not skips
        try:
            async with lifecycle.finishing(self.client, task, outcome, self.callbacks):
                result = await self._extracted(await lifecycle.collect(self.client, task, outcome))
                if result is not None and not ends_well:
                    self._push_result(result)
                if not ends_well and not skips:
                    self._push_diagnosis(outcome.diagnosis_of(task))
        except Exception:  # after it, the pod is finished
            self._pod_task = None
            raise
        self._pod_task = None
        if ends_well:
            return result
        if skips:
            raise AirflowSkipException(f"Pod {task.name} exited with {outcome.exit_code}: skipping the task")
        if outcome.status is OutcomeStatus.TIMED_OUT:
            raise AirflowTaskTimeout(outcome.message)
        raise DIRECTIVES.get(outcome.category, AirflowException)(outcome.message)

    async def _extracted(self, result: Any) -> Any:
        """Return the task's result: what a subclass makes of the pod's, if it has an `extract_xcom`."""
        operator = self.operator
        if not operator.do_xcom_push or not is_users_own(type(operator), "extract_xcom"):
            return result
        operator.collected = (result,)
        try:
            return await run_in_thread(lambda: operator.extract_xcom(operator.pod))
        finally:
            operator.collected = None

    def _push_result(self, result: Any) -> None:
        """Push the XCom of a task that did not succeed, as Airflow does for one that did."""
        ti = self.context["ti"]
        if self.operator.multiple_outputs and isinstance(result, dict):
            for key, value in result.items():
                ti.xcom_push(key=key, value=value)
        ti.xcom_push(key="return_value", value=result)

    def _push_diagnosis(self, diagnosis: PodDiagnosis) -> None:
        try:
            if diagnosis_is_pushed():
                self.context["ti"].xcom_push(key=DIAGNOSIS, value=diagnosis.to_dict())
        except Exception as error:  # of a user's XCom backend, too: the verdict does not depend on it
            log.warning("The XCom %s is not set: %r", DIAGNOSIS, error)


def _may_read_pod(operator: OnDemandAttributes) -> bool:
    """Whether a subclass may ask for `self.pod` when the pod has been deleted."""
    return any(is_users_own(type(operator), name) for name in ("trigger_reentry", "post_execute", "extract_xcom"))


def _may_have_created(error: BaseException) -> bool:
    """Whether a create that ended like this may have made a pod: its answer may have been lost."""
    return not isinstance(error, KpoError) or isinstance(error, (UnreachableError, ServerError))
