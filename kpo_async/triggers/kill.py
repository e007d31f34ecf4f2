"""End the pod of a deferred task that its user ended, however long it takes.

Airflow 3.3 calls a trigger's `on_kill`, but cancels that call again each second until it has ended
(`TriggerRunner.cancel_triggers`), which is less than a slow API server needs. So the work is a task of its own: a
cancelled caller only stops waiting for it. It tries until the API server has answered or the triggerer stops.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from kpo_async import lifecycle
from kpo_async.exceptions import KpoError, ServerError, ThrottledError, UnreachableError
from kpo_async.hooks.airflow import ENDED, task_state
from kpo_async.hooks.cluster_hook import source_of_task
from kpo_async.kube.client import connect
from kpo_async.kube.retry import Backoff
from kpo_async.kube.shared import PerLoop, SingleFlight
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)

DEFERRED = "deferred"
BACKOFF = Backoff(first=1.0, cap=8.0)
"""Between rounds. The client has retried single calls before that."""

_KILLS: PerLoop[dict[str, asyncio.Task[None]]] = PerLoop(dict)
"""By the pod's uid, or the task instance's id while no pod is known."""
_FIRST_REQUESTS: SingleFlight[None, str | None] = SingleFlight("first request to Airflow", fresh_for=math.inf)


def warm_up(task_instance: Any) -> None:
    """Make this process's first request to Airflow now, in the background, because a kill cannot wait for it.

    The triggerer's supervisor builds an execution API for it, which takes 7 s of CPU.
    """
    _FIRST_REQUESTS.start(None, lambda: task_state(task_instance))


async def kill(task: PodTask, task_instance: Any) -> None:
    """End the task's pod if its user ended the task. Cancelling this call does not stop that; errors are logged."""
    name = f"{task.namespace}/{task.name}"
    await kill_by(lambda state: _try_to_kill(task, state), name, task.uid, task_instance)


async def kill_by(attempt: Callable[[str | None], Awaitable[None]], name: str, key: str, task_instance: Any) -> None:
    """Do as `kill` by calling `attempt` with the task's state. `name` is the pod's, for people; `key` is unique."""
    kills = _KILLS.get()
    if key not in kills:
        kills[key] = asyncio.create_task(_repeat(attempt, name, task_instance), name=f"kill of pod {name}")
        kills[key].add_done_callback(lambda _: kills.pop(key))
    await asyncio.shield(kills[key])


async def _repeat(attempt: Callable[[str | None], Awaitable[None]], name: str, task_instance: Any) -> None:
    failures = 0
    while True:
        try:
            return await attempt(await task_state(task_instance))
        except (UnreachableError, ServerError, ThrottledError) as error:
            failures += 1
            log.warning("Pod %s is not killed yet: %s", name, error)
        except Exception as error:  # rights, configuration, or Airflow does not answer
            log.warning(
                "Pod %s may be left, although its task was ended: %s",
                name,
                error,
                exc_info=not isinstance(error, KpoError),
            )
            return None
        await asyncio.sleep(BACKOFF.delay(failures))


async def _try_to_kill(task: PodTask, state: str | None) -> None:
    """Kill the pod unless the task is still deferred: then the trigger only moves to another triggerer.

    Airflow calls `on_kill` then, too (apache/airflow#73454). While the task is queued or runs, a worker resumes it or a
    new try has begun, and a pod whose base container has ended is left to that.
    """
    if state == DEFERRED:
        return
    async with connect(await source_of_task(task)) as client:
        await lifecycle.end_all(client, task, over=state in ENDED)
