"""More than one pod for one try, one after the other: after a disruption, or with more memory.

`see_through` is `wait`, repeated: a pod that the cluster took away (`retry_on_disruption`), or whose base container ran
out of memory (`on_oom`), is created again. The next pod's name follows from the try and the number of the attempt, so a
process that continues finds it, and a create whose answer was lost makes no second pod. Its manifest is the earlier
pod's, read while that was there and kept in memory only. Where it cannot be read, and where this process may not create
pods, the outcome is returned as it is, and a worker creates the pod with `next_attempt` from the task's parameters.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

from msgspec.structs import replace

from kpo_async.api_types import pod_from_dict
from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.compat import StrEnum
from kpo_async.exceptions import (
    ApiError,
    ConflictError,
    KpoError,
    NotFoundError,
    ServerError,
    ThrottledError,
    UnreachableError,
)
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.retry import Backoff
from kpo_async.lease import lease
from kpo_async.lifecycle.creation import ALREADY_EXISTS, create, creations_answered
from kpo_async.lifecycle.disposal import end, finish, is_done, kill, owner_id
from kpo_async.lifecycle.ownership import created_at, name_conflict, pod_of
from kpo_async.lifecycle.task_log import emit_remaining_logs
from kpo_async.lifecycle.wait import wait
from kpo_async.logs.plan import LineFormat
from kpo_async.pod.again import attempt_of, avoiding, manifest_again, memory_of, numbered, with_more_memory
from kpo_async.pod.causes import Category
from kpo_async.pod.diagnose import is_quota_used_up
from kpo_async.pod.names import name_of_attempt
from kpo_async.pod.status import assess
from kpo_async.pod_task import Outcome, PodTask

log = logging.getLogger(__name__)

BACKOFF = Backoff(first=10.0, cap=120.0, jitter=0.5)
"""Between a disruption and the next pod: what ended one pod often ends many, and the next ones at once."""
CREATE_BACKOFF = Backoff(first=2.0, cap=30.0, jitter=0.5)
"""Between rounds of creating it. The client has retried single calls before that."""
MOST_OOM_ATTEMPTS = 10


class Cause(StrEnum):
    """Why a pod is created again."""

    DISRUPTION = "disruption"
    OUT_OF_MEMORY = "out of memory"


class Try(Protocol):
    """The try as Airflow knows it: a trigger, or a worker's run."""

    async def is_alive(self) -> bool:
        """Whether its user has not ended it: a deletion by its kill looks like one from outside."""

    async def creates(self, manifest: Json) -> None:
        """Called before the pod of another attempt is created."""

    async def created(self, task: PodTask, pod: Json) -> None:
        """Called when it is, or was by a process before this one: `task` follows that `pod`."""


async def see_through(
    client: Client,
    task: PodTask,
    callbacks: Callbacks,
    owner: Try,
    *,
    formatter: LineFormat | None = None,
    pod: Json | None = None,
) -> tuple[PodTask, Outcome]:
    """`wait` for the pod, and for those that take its place, and return the last one's task and outcome.

    `pod` is the task's pod as the API server has it, for a caller that has just created it.
    """
    known = pod is not None or not task.may_have_been_followed()
    manifest = None if pod is None else manifest_again(pod)
    while True:
        async with _reading(client, task, manifest) as reading:
            outcome = await wait(client, task, callbacks, formatter=formatter)
            await lease().held()
            if cause_of_next(task, outcome) is None:
                return task, outcome
            manifest = await reading
        if not outcome.disrupted and not outcome.logs_complete:
            await emit_remaining_logs(client, task, outcome, callbacks, formatter=formatter)
        later = None if known else await _latest(client, task, owner)
        if later is None and manifest is not None:
            later = await next_attempt(client, task, outcome, manifest, callbacks, owner)
        if later is None:
            return task, outcome
        known, (task, manifest) = True, later


def cause_of_next(task: PodTask, outcome: Outcome) -> Cause | None:
    """Return why another pod follows one that ended like this, None if none does."""
    if task.identity is None or task.skips(outcome) or _has_timed_out(task):
        return None
    if outcome.disrupted:
        return Cause.DISRUPTION if task.disruptions < task.retry_on_disruption else None
    # Not after the base container has succeeded, whatever became of its companions.
    out_of_memory = outcome.category == Category.OOM_KILLED and outcome.exit_code != 0 and task.on_oom is not None
    return Cause.OUT_OF_MEMORY if out_of_memory and _oom_attempts(task) < MOST_OOM_ATTEMPTS else None


async def next_attempt(
    client: Client, task: PodTask, outcome: Outcome, manifest: Json, callbacks: Callbacks, owner: Try
) -> tuple[PodTask, Json | None] | None:
    """Create the pod that follows one with this `manifest`; return its task, and the manifest of the one after it.

    None when there is no reason to (`cause_of_next`), no more memory to give, or no time left, and when the try is over
    or the API server refuses.
    """
    cause = cause_of_next(task, outcome)
    wanted = None if cause is None else _manifest_of_next(task, outcome, manifest, cause)
    if wanted is None:
        return None
    delay = _pause(task) if cause is Cause.DISRUPTION else 0.0
    _log_next(task, outcome, manifest, wanted, delay)
    await asyncio.sleep(delay)
    pod = await _create(client, task, wanted, owner)
    if pod is None:
        return None
    disruptions = task.disruptions + (cause is Cause.DISRUPTION)
    task = _task_of(task, pod, task.attempt + 1, disruptions, since=time.time())
    await owner.created(task, pod)
    await callbacks.pod_event(CallbackEvent.POD_CREATION, pod)
    return task, manifest_again(pod)


def manifest_of_attempt(manifest: Json, task: PodTask) -> Json:
    """Return the operator's `manifest` with the memory that the task's attempt has had."""
    for _ in range(_oom_attempts(task) if task.on_oom else 0):
        assert task.on_oom is not None
        manifest = with_more_memory(manifest, task.base_container, task.on_oom) or manifest
    return manifest


def _manifest_of_next(task: PodTask, outcome: Outcome, manifest: Json, cause: Cause) -> Json | None:
    assert task.identity is not None
    attempt, disruptions = task.attempt + 1, task.disruptions
    if cause is Cause.DISRUPTION:
        disruptions += 1
        # A pod that was deleted says nothing about its node.
        found: Json | None = manifest if outcome.category == Category.DELETED else avoiding(manifest, outcome.node)
    else:
        assert task.on_oom is not None
        found = with_more_memory(manifest, task.base_container, task.on_oom)
    if found is None:
        memory = memory_of(manifest, task.base_container)
        log.info("No other attempt: on_oom gives no more memory than %s", memory or "without a request or limit")
        return None
    return numbered(found, name_of_attempt(task.name, task.identity, attempt), attempt, disruptions)


def _log_next(task: PodTask, outcome: Outcome, before: Json, after: Json, delay: float) -> None:
    if outcome.disrupted:
        attempts = 1 + task.retry_on_disruption + _oom_attempts(task)
        log.warning("Attempt %d of %d, in %.0f s: %s", task.attempt + 1, attempts, delay, outcome.message)
    else:
        memory = [memory_of(manifest, task.base_container) for manifest in (after, before)]
        log.warning("Attempt %d, with memory %s after %s: %s", task.attempt + 1, *memory, outcome.message)


async def _create(client: Client, task: PodTask, manifest: Json, owner: Try) -> Json | None:
    """Create the pod, or find it if it was created before. None when the try is over, or the API server refuses."""
    started = time.monotonic()
    for failures in itertools.count(1):
        if _has_timed_out(task):
            return None
        await lease().held()
        if not await owner.is_alive():
            log.info("No other attempt: the task was ended meanwhile")
            return None
        try:
            await _retire(client, task)
            await owner.creates(manifest)
            return await _create_or_find(client, task, manifest)
        except KpoError as error:
            waits = time.monotonic() - started < task.schedule_timeout
            # The pod before it may count for the quota until it is gone.
            if not (_is_transient(error) or (waits and is_quota_used_up(str(error)))):
                log.warning("The pod cannot be created again: %s", error)
                return None
            log.warning("The pod is not created again yet: %s", error)
        await asyncio.sleep(CREATE_BACKOFF.delay(failures))
    raise AssertionError("unreachable")


async def _retire(client: Client, task: PodTask) -> None:
    """Deal with the pod that another one replaces: one that may still run is deleted, whatever else is wanted."""
    pod = pod_of(client, task)
    found = await pod.get()
    if found is None or is_done(found):
        return
    if assess(pod_from_dict(found), task.base_container).active:
        await pod.delete(grace_period=task.grace_period)
    else:
        await finish(pod, task, succeeded=False)


async def _create_or_find(client: Client, task: PodTask, manifest: Json) -> Json:
    """Create the pod, or return the one of this try that has its name. Raises `ApiError` and `PodConflictError`."""
    while True:
        try:
            return await create(client, manifest)
        except ConflictError as error:
            if error.reason != ALREADY_EXISTS:
                raise
            found = await _get(client, task, manifest["metadata"]["name"])
        if found is not None:
            if owner_id(found) == task.owner and not is_done(found):
                return found
            raise name_conflict(found)


async def _latest(client: Client, task: PodTask, owner: Try) -> tuple[PodTask, Json | None] | None:
    """Return the last attempt that a process before this one has created after the task's pod, if it is there.

    That process may not have come to tell the `owner`.
    """
    try:
        async with aclosing(_later_pods(client, task)) as later:
            found = await anext(later, None)
    except ApiError as error:
        log.warning("Whether there is a later attempt cannot be found out: %s", error)
        return None
    if found is None:
        return None
    attempt, disruptions = attempt_of(found)
    log.info("Continuing with attempt %d, pod %s/%s", attempt, task.namespace, found["metadata"]["name"])
    task = _task_of(task, found, attempt, disruptions, since=created_at(client, found))
    await owner.created(task, found)
    return task, manifest_again(found)


async def end_all(client: Client, task: PodTask, *, over: bool) -> None:
    """Kill the task's pod, and those of later attempts. `over`: the task has ended, so ended pods are finished.

    A triggerer may have been creating one when the user ended the task, or another triggerer may have created it.
    """
    kill_or_finish = end if over else kill
    await kill_or_finish(pod_of(client, task), task, owner=task.owner)
    if task.retry_on_disruption or task.on_oom:
        await creations_answered(task.owner)
        async for found in _later_pods(client, task):
            await kill_or_finish(PodHandle.of(client, found), task, owner=task.owner)


async def _later_pods(client: Client, task: PodTask) -> AsyncGenerator[Json, None]:
    """Yield the pods of later attempts than the task's, the last one first. Raises `ApiError`."""
    if task.identity is None:
        return
    most = 1 + task.retry_on_disruption + (MOST_OOM_ATTEMPTS if task.on_oom else 0)
    for attempt in range(most, task.attempt, -1):
        found = await _get(client, task, name_of_attempt(task.name, task.identity, attempt))
        if found is not None and owner_id(found) == task.owner and not is_done(found):
            yield found


async def _get(client: Client, task: PodTask, name: str) -> Json | None:
    try:
        return await client.get("pods", name, task.namespace)
    except NotFoundError:
        return None


def _task_of(task: PodTask, pod: Json, attempt: int, disruptions: int, *, since: float) -> PodTask:
    """Return the task that follows this pod of a later attempt, which another process may have done `since` then."""
    return replace(
        task,
        name=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        attempt=attempt,
        disruptions=disruptions,
        deferred_at=task.deferred_at and since,
    )


@asynccontextmanager
async def _reading(client: Client, task: PodTask, manifest: Json | None) -> AsyncIterator[asyncio.Task[Json | None]]:
    """Read the manifest in the background if another attempt may follow, and unless it is known."""

    async def read() -> Json | None:
        if manifest is not None or task.identity is None or not (task.retry_on_disruption or task.on_oom):
            return manifest
        try:
            pod = await pod_of(client, task).get()
        except ApiError as error:
            log.info("A worker would have to create the pod again, if it is lost: %s", error)
            return None
        return None if pod is None else manifest_again(pod)

    reading = asyncio.create_task(read(), name=f"manifest of pod {task.namespace}/{task.name}")
    try:
        yield reading
    finally:
        reading.cancel()
        await asyncio.wait([reading])


def _oom_attempts(task: PodTask) -> int:
    """Return how many pods of the try have run out of memory before this one."""
    return task.attempt - 1 - task.disruptions


def _pause(task: PodTask) -> float:
    """Return the seconds until the next pod, which end with the task's time."""
    delay = BACKOFF.delay(task.disruptions + 1)
    return delay if task.deadline is None else max(0.0, min(delay, task.deadline - time.time()))


def _has_timed_out(task: PodTask) -> bool:
    return task.deadline is not None and time.time() >= task.deadline


def _is_transient(error: KpoError) -> bool:
    return isinstance(error, (UnreachableError, ServerError, ThrottledError))
