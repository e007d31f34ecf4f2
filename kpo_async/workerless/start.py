"""What a worker does between "queued" and "deferred", in a triggerer: render, build, wait for a place, create."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.api_types import pod_from_dict
from kpo_async.callbacks import CallbackEvent, Callbacks, ExecutionMode
from kpo_async.exceptions import ServerError, ThrottledError, UnreachableError
from kpo_async.hooks.airflow import delete_xcom, pull_xcom, push_xcom
from kpo_async.hooks.settings import quota_time_limit
from kpo_async.hooks.sync_client import core_v1
from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.kube.retry import Backoff, is_retried
from kpo_async.kube.shared import PerLoop
from kpo_async.lifecycle import Owner
from kpo_async.operators.manifest import build_for, identity, source_of_operator
from kpo_async.operators.pod_task import callback_classes, for_deferral, owner_of, pod_task_of
from kpo_async.pod.again import attempt_of
from kpo_async.pod.status import assess
from kpo_async.pod_task import PodTask
from kpo_async.triggers.ended_pods import EndedPod, finish_once_stored
from kpo_async.triggers.kill import DEFERRED
from kpo_async.triggers.pod import DIAGNOSIS, RETURN_VALUE, VERDICT
from kpo_async.workerless.arguments import Start, fails_in_triggerer, read
from kpo_async.workerless.context import guarded, template_context
from kpo_async.workerless.places import Place, Places
from kpo_async.workerless.preparations import Preparations

BACKOFF = Backoff(first=2.0, cap=15.0, jitter=0.5)
"""While the API server is away."""
CREATION_GRACE = 30.0
"""Seconds that a kill waits for a create that is under way."""
THREADS = 4
"""Threads that render templates and build manifests. Apart from the loop's, which Airflow's own logging needs."""

T = TypeVar("T")
log = logging.getLogger(__name__)
_CREATIONS: PerLoop[set[asyncio.Task[Json]]] = PerLoop(set)
_PLACES: PerLoop[Places] = PerLoop(Places)
_PREPARATIONS: PerLoop[Preparations] = PerLoop(Preparations)
_THREADS = ThreadPoolExecutor(THREADS, thread_name_prefix="kpo-async start")


class PodStart:
    """The start of one try. `run` creates the pod or finds it again, `kill` sees that there is none."""

    def __init__(self, arguments: str, task_instance: Any, deadline: float | None) -> None:
        self._arguments = arguments
        self._task_instance = task_instance
        self._deadline = deadline
        self._prepared: tuple[Start, ClusterSource, Json, Owner] | None = None
        self._creation: asyncio.Task[Json] | None = None
        self._task: PodTask | None = None
        """The pod, from when it is known."""
        self.context: Any = {}
        """The template context, once it is known."""
        self.may_fail = fails_in_triggerer(arguments)
        """Whether the triggerer should end the task if it fails, and can, as far as is known."""
        self.place: Place | None = None
        """The place that the pod has among those that run at once."""

    @property
    def pod_name(self) -> str:
        """The name of the pod as `namespace/name`, once its manifest is known."""
        metadata = self._prepared[2]["metadata"] if self._prepared else {}
        return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"

    async def run(self) -> PodTask:
        """Return the pod's task as it is deferred. Raises `KpoError`, `NeedsWorkerError`, and what XCom backends do."""
        with contextlib.ExitStack() as preparing:
            preparing.enter_context(_PREPARATIONS.get())
            await self._delete_earlier_xcoms()
            return await self._run(preparing)

    async def _run(self, preparing: contextlib.ExitStack) -> PodTask:
        start, source, manifest, owner = await self._prepare()
        operator = start.operator
        callbacks = Callbacks(
            callback_classes(operator),
            mode=ExecutionMode.SYNC,
            make_client=partial(core_v1, source),
            operator=operator,
            context=self.context,
            deadline=self._deadline,
            in_triggerer=True,
        )
        async with connect(source) as client:
            await callbacks.client_created()
            manifest = await callbacks.manifest_created(manifest)
            self._prepared = start, source, manifest, owner
            ended = await self._ended_before(manifest, owner) if callbacks.wants(CallbackEvent.POD_CLEANUP) else None
            preparing.close()
            pod = ended or await self._ensure_pod(client, manifest, start, owner)
            attempt, disruptions = attempt_of(pod, owner.task.try_number)
            task = pod_task_of(
                operator, self.context, pod, deadline=self._deadline, attempt=attempt, disruptions=disruptions
            )
            self._task = None if ended else task
            if task.logs is not None:
                for mistake in task.logs.mistakes(assess(pod_from_dict(pod), task.base_container)):
                    log.warning("%s", mistake)
            async with _PREPARATIONS.get().after():
                await push_xcom(self._task_instance, "pod_name", task.name)
                await push_xcom(self._task_instance, "pod_namespace", task.namespace)
            await callbacks.pod_event(CallbackEvent.POD_CREATION, pod)
        # Another triggerer may have created it.
        task = replace(task, mapped_over=start.mapped_over)
        task = for_deferral(operator, task, deferred_at=lifecycle.created_at(client, pod))
        task = replace(task, worker_ends_failure=not start.may_fail)
        return task if start.may_end else replace(task, end_from_trigger=False)

    async def kill(self, state: str | None) -> None:
        """Kill the pod that this try has or may have, unless the trigger only moves. Raises `KpoError`."""
        if state == DEFERRED:
            return
        if self._creation is not None:
            # Its answer, if it comes, is better than a look that the create overtakes.
            await asyncio.wait([self._creation], timeout=CREATION_GRACE)
            self._creation.cancel()
        _, source, manifest, owner = await self._prepare()
        async with connect(source) as client:
            await lifecycle.kill_own(client, manifest, owner)

    def leave_pod(self) -> None:
        """Have the pod finished, if there is one, when Airflow has stored that the task has failed."""
        if self._task is not None and self._prepared is not None:
            _, source, _, _ = self._prepared
            finish_once_stored(source, EndedPod(self._task_instance, self._task, succeeded=False))

    async def _prepare(self) -> tuple[Start, ClusterSource, Json, Owner]:
        """Return the rendered operator, its cluster, the manifest, and the owner of the pod."""
        if self._prepared is None:
            start = await read(self._arguments, self._task_instance)
            self.may_fail = start.may_fail and start.may_end and bool(start.operator.end_from_trigger)
            self.context = template_context(self._task_instance)
            render = partial(_render, start, self.context)
            await _in_thread(guarded, render, "its templates cannot be rendered here")
            source, defaults = await source_of_operator(start.operator)
            build = partial(build_for, start.operator, identity(self.context), source, defaults)
            manifest = await _in_thread(guarded, build, "its manifest cannot be built here")
            # An earlier try's pod was lost with a worker, if at all, and Airflow does not say here whether a user has
            # cleared the task since.
            ti_context: Any = {**self.context, "ti": self._task_instance}
            owner = dataclasses.replace(await owner_of(start.operator, ti_context), reattach=False)
            self._prepared = start, source, manifest, owner
        return self._prepared

    async def _ended_before(self, manifest: Json, owner: Owner) -> Json | None:
        """Return what is known of a pod that a triggerer has finished before it was killed: its trigger ends the task.

        It does so for functions that are called after that. Its name may be free by now, and no second pod may be
        created for the try.
        """
        saved = await pull_xcom(self._task_instance, VERDICT)
        if not isinstance(saved, dict) or saved.get("owner") != owner.id:
            return None
        return {"metadata": {**manifest["metadata"], "uid": saved["uid"]}}

    async def _delete_earlier_xcoms(self) -> None:
        """Delete what an earlier try has pushed, as Airflow does where a worker starts a try."""
        ti = self._task_instance
        if ti.try_number < 2:
            return
        try:
            verdict, this_try = await pull_xcom(ti, VERDICT), identity(cast("Any", {"ti": ti})).owner
            if isinstance(verdict, dict) and verdict.get("owner") == this_try:
                return  # this try has pushed them
            result = await delete_xcom(ti, RETURN_VALUE)
            several = isinstance(result, dict) and json.loads(self._arguments)["multiple_outputs"]
            for key in (*(result if several else ()), DIAGNOSIS, VERDICT):
                await delete_xcom(ti, key)
        except Exception as error:  # whatever Airflow's channel or an XCom backend raises
            log.warning("XComs of an earlier try may be left: %r", error)

    async def _ensure_pod(self, client: Client, manifest: Json, start: Start, owner: Owner) -> Json:
        """Return the pod that another triggerer has created for this try, or wait for a place and create it."""
        operator, places, ti = start.operator, _PLACES.get(), self._task_instance
        demands = await places.demands(
            namespace=manifest["metadata"]["namespace"],
            conn_id=operator.kubernetes_conn_id,
            dag_id=ti.dag_id,
            pool=ti.task.pool,
            pool_slots=ti.task.pool_slots,
        )
        found: Json | None = None
        if demands or operator.retry_on_disruption or operator.on_oom:  # else the name alone tells, when it is taken
            found = await self._through_outage(start, partial(lifecycle.own_pod, client, manifest, owner))
        if demands:
            weight = int(ti.task.priority_weight)
            self.place = await places.take(demands, weight=weight, at_once=found is not None)
        return found or await self._create(client, manifest, start, owner)

    async def _create(self, client: Client, manifest: Json, start: Start, owner: Owner) -> Json:
        """Create the pod in a task of its own: a create that is cancelled may arrive all the same."""
        limit = quota_time_limit()
        if self._deadline is not None:
            limit = min(limit, self._deadline - time.time())
        creations = _CREATIONS.get()
        ensure_pod = partial(lifecycle.ensure_pod_within_quota, client, manifest, owner, time_limit=limit)
        self._creation = asyncio.create_task(
            self._through_outage(start, ensure_pod),
            name=f"create pod {manifest['metadata']['name']}",
        )
        creations.add(self._creation)
        self._creation.add_done_callback(creations.discard)
        return await asyncio.shield(self._creation)

    async def _through_outage(self, start: Start, request: Callable[[], Awaitable[T]]) -> T:
        """Return what `request` returns, repeated while the API server is away: no worker slot waits with it.

        It may be away for as long as the pod might take to start. The client has retried single calls before that.
        """
        given_up_at = time.time() + start.operator.startup_timeout_seconds
        if self._deadline is not None:
            given_up_at = min(given_up_at, self._deadline)
        for failures in itertools.count(1):
            try:
                return await request()
            except (UnreachableError, ServerError, ThrottledError) as error:
                pause = BACKOFF.delay(failures)
                if not is_retried(error) or time.time() + pause > given_up_at:
                    raise
                log.warning("The pod is not created yet: %s", error)
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")


async def _in_thread(function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *arguments))


def _render(start: Start, context: Any) -> None:
    operator = start.operator
    context["task"] = operator
    environment = operator.get_template_env()
    seen = {id(value) for value in start.from_xcoms}
    operator._do_render_template_fields(operator, operator.template_fields, context, environment, seen)
    operator._after_rendering(context)
