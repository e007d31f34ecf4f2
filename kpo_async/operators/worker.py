"""A worker's part of the story: start the pod and hand it over, or see it through here, or finish what a trigger told.

The story itself is `lifecycle`; this puts Airflow around it: the context's identity and deadline, XComs, exceptions
with the meaning Airflow gives them, and the user's kill, which arrives as a signal while the loop runs.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from kpo_async import lifecycle
from kpo_async.callbacks import CallbackEvent, Callbacks, ExecutionMode
from kpo_async.exceptions import KpoError
from kpo_async.hooks.airflow import AirflowException, AirflowSkipException, AirflowTaskTimeout
from kpo_async.hooks.kubernetes import resolve
from kpo_async.hooks.sync_client import core_v1
from kpo_async.json_types import Json
from kpo_async.kube.client import Client, aclose_all, connect
from kpo_async.lifecycle import Owner
from kpo_async.models import to_dict
from kpo_async.operators import pod_task as terms
from kpo_async.operators.manifest import base_container_name, cluster_ref, identity
from kpo_async.pod.names import TaskIdentity, siblings
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from kpo_async.operators.pod import KubernetesPodOperator

T = TypeVar("T")
log = logging.getLogger(__name__)

ALARM_GRACE = 30.0
"""Seconds between the deadline that the loop keeps and Airflow's own alarm, which stays as a last resort."""
DEFER_GRACE = 60.0
"""Seconds between the deadline that the trigger keeps and Airflow's time-out of the deferral, likewise."""


class Run:
    """One visit of an event loop to this worker, which a signal handler can end."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def __call__(self, story: Coroutine[Any, Any, T]) -> T:
        """Run `story` to its end. Raises `AirflowException` for our own errors and when it was killed."""
        try:
            return asyncio.run(self._tell(story))
        except asyncio.CancelledError:
            raise AirflowException("The task was killed") from None
        except KpoError as error:
            raise AirflowException(str(error)) from error

    async def _tell(self, story: Coroutine[Any, Any, T]) -> T:
        self._loop = asyncio.get_running_loop()
        self._task = task = asyncio.create_task(story, name="pod story")
        try:
            return await task
        finally:
            await aclose_all()

    def kill(self) -> None:
        """End the story, from a signal handler on the loop's own thread; it stops its pod on the way out."""
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


def start(operator: KubernetesPodOperator, context: Context) -> NoReturn:
    """Create the pod and defer."""
    deadline = _deadline(operator)
    manifest = _manifest(operator, context)
    task = _run(operator, _start(operator, context, manifest, deadline))
    now = time.time()
    operator.defer(
        trigger=KubernetesPodTrigger(terms.for_triggerer(operator, task, now).to_dict()),
        method_name="trigger_reentry",
        timeout=None if deadline is None else max(0.0, deadline - now) + DEFER_GRACE,
    )


def run(operator: KubernetesPodOperator, context: Context) -> Any:
    """Create the pod and see it through to its end in this process."""
    deadline = _deadline(operator)
    if deadline is not None:
        # The loop keeps the deadline itself and deletes the pod; an exception thrown into it by a signal handler, at
        # whatever line it happens to be, could not.
        signal.setitimer(signal.ITIMER_REAL, max(0.0, deadline - time.time()) + ALARM_GRACE)
    manifest = _manifest(operator, context)
    return _run(operator, _see_through(operator, context, manifest, deadline))


def resume(operator: KubernetesPodOperator, context: Context, event: Mapping[str, Any]) -> Any:
    """Finish the task whose pod ended while it was deferred."""
    return _run(operator, _resume(operator, context, event))


def abandon(operator: KubernetesPodOperator, context: Context) -> None:
    """Stop the pod of a task whose trigger broke or timed out: nobody else will."""
    manifest = _manifest(operator, context)
    _run(operator, _abandon(operator, context, manifest))


def _run(operator: KubernetesPodOperator, story: Coroutine[Any, Any, T]) -> T:
    operator.visit = Run()
    return operator.visit(story)


def _manifest(operator: KubernetesPodOperator, context: Context) -> Json:
    """The manifest, from whatever a subclass made of it. Raises `AirflowException` where there can be none."""
    try:
        manifest: Json = to_dict(operator.build_pod_request_obj(context))
    except KpoError as error:
        raise AirflowException(str(error)) from error
    except AttributeError as error:
        if not isinstance(error.obj, dict):
            raise
        raise AirflowException(
            f"{type(operator).__name__}.build_pod_request_obj reads .{error.name} of a plain dict: the manifest is no "
            "V1Pod here. Use pod['metadata']['labels'], or make a model of it: kpo_async.models.to_v1pod(pod)"
        ) from error
    return manifest


def _deadline(operator: KubernetesPodOperator) -> float | None:
    timeout = operator.execution_timeout
    return None if timeout is None else time.time() + timeout.total_seconds()


@asynccontextmanager
async def _connected(operator: KubernetesPodOperator, context: Context) -> AsyncIterator[tuple[Client, Callbacks]]:
    """A client of the operator's cluster, and its callbacks, which have been told of theirs."""
    source, _ = await resolve(cluster_ref(operator))
    callbacks = Callbacks(
        terms.callback_classes(operator),
        mode=ExecutionMode.SYNC,
        make_client=partial(core_v1, source),
        operator=operator,
        context=context,
    )
    async with connect(source) as client:
        await callbacks.client_created()
        yield client, callbacks


async def _start(operator: KubernetesPodOperator, context: Context, manifest: Json, deadline: float | None) -> PodTask:
    async with _connected(operator, context) as (client, callbacks):
        pod = await _ensure(client, operator, context, manifest, callbacks)
        return terms.describe(operator, pod, deadline)


async def _see_through(
    operator: KubernetesPodOperator, context: Context, manifest: Json, deadline: float | None
) -> Any:
    async with _connected(operator, context) as (client, callbacks):
        pod = await _ensure(client, operator, context, manifest, callbacks)
        task = terms.describe(operator, pod, deadline)
        try:
            outcome = await lifecycle.wait(client, task, callbacks, formatter=operator.log_formatter)
        except asyncio.CancelledError:
            await lifecycle.kill(client, task)
            raise
        return await _end(client, operator, context, task, outcome, callbacks)


async def _ensure(
    client: Client, operator: KubernetesPodOperator, context: Context, manifest: Json, callbacks: Callbacks
) -> Json:
    """The task's pod, its name told to Airflow. A kill meanwhile leaves no pod behind."""
    manifest = await callbacks.manifest_created(manifest)
    owner = _owner(operator, identity(context))
    try:
        pod = await lifecycle.ensure_pod(client, manifest, owner)
    except asyncio.CancelledError:
        await lifecycle.abandon(client, manifest, owner)
        raise
    metadata = pod["metadata"]
    context["ti"].xcom_push(key="pod_name", value=metadata["name"])
    context["ti"].xcom_push(key="pod_namespace", value=metadata["namespace"])
    await callbacks.pod_event(CallbackEvent.POD_CREATION, pod)
    return pod


def _owner(operator: KubernetesPodOperator, task: TaskIdentity) -> Owner:
    return Owner(
        id=task.owner,
        siblings=siblings(task),
        try_number=task.try_number,
        reattach=operator.durable,
        base=base_container_name(operator),
    )


async def _resume(operator: KubernetesPodOperator, context: Context, event: Mapping[str, Any]) -> Any:
    outcome = Outcome.from_dict(event["outcome"])
    metadata = {"name": event["name"], "namespace": event["namespace"], "uid": event["uid"]}
    task = terms.describe(operator, {"metadata": metadata}, deadline=None)
    async with _connected(operator, context) as (client, callbacks):
        if callbacks.wants(CallbackEvent.OPERATOR_RESUMING):
            pod = await lifecycle.last_pod(client, task)
            await callbacks.pod_event(CallbackEvent.OPERATOR_RESUMING, pod, event=dict(event))
        started = outcome.exit_code is not None
        if started and callbacks.wants(CallbackEvent.POD_STARTING) and terms.stays_with_worker(operator):
            await callbacks.pod_event(CallbackEvent.POD_STARTING, await lifecycle.last_pod(client, task))
        if not outcome.logs_complete:
            await lifecycle.emit_remaining_logs(client, task, outcome, callbacks, formatter=operator.log_formatter)
        return await _end(client, operator, context, task, outcome, callbacks)


async def _end(
    client: Client,
    operator: KubernetesPodOperator,
    context: Context,
    task: PodTask,
    outcome: Outcome,
    callbacks: Callbacks,
) -> Any:
    """Collect the result, deal with the pod, and say to Airflow how it went: a value, or an exception."""
    try:
        async with lifecycle.finishing(client, task, outcome, callbacks):
            result = await lifecycle.collect(client, task, outcome)
    except asyncio.CancelledError:
        await lifecycle.kill(client, task)
        raise
    if outcome.succeeded:
        return result
    if result is not None:
        push_result(operator, context, result)
    if task.skips(outcome):
        raise AirflowSkipException(f"Pod {task.name} exited with {outcome.exit_code}: skipping the task")
    if outcome.status == OutcomeStatus.TIMED_OUT:
        raise AirflowTaskTimeout(outcome.message)
    raise AirflowException(outcome.message)


def push_result(operator: KubernetesPodOperator, context: Context, result: Any) -> None:
    """Push the XCom of a task that did not succeed, as Airflow does for those that do."""
    ti = context["ti"]
    if operator.multiple_outputs and isinstance(result, dict):
        for key, value in result.items():
            ti.xcom_push(key=key, value=value)
    ti.xcom_push(key="return_value", value=result)


async def _abandon(operator: KubernetesPodOperator, context: Context, manifest: Json) -> None:
    async with _connected(operator, context) as (client, _):
        await lifecycle.abandon(client, manifest, _owner(operator, identity(context)))
