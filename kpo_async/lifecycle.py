"""The story of one pod: `ensure_pod` -> `wait` -> `collect` -> `finish`, and `kill` from outside.

The only telling of it: workers run these with `asyncio.run`, triggers await them. Nothing here knows Airflow or keeps a
connection: a client comes in, an `Outcome` goes out. Every await may be the last one (the worker dies, the triggerer
dies, the user kills the task), so each step can be repeated by somebody else and finds what the one before left:
a pod has the same name for the same try, is known by uid from then on, and is deleted only under that uid.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from kpo_async import xcom
from kpo_async.compat import timeout, timeout_at
from kpo_async.exceptions import ApiError, ConflictError, ForbiddenError, InvalidError, NotFoundError, PodConflictError, XComError
from kpo_async.handover import Ending, OnFinishAction, OnKillAction, Outcome, PodTask
from kpo_async.kube.client import Client
from kpo_async.kube.informer import Presence, follow
from kpo_async.pod.names import DONE_LABEL, OWNER_ANNOTATION, SELECTOR, TRUE
from kpo_async.pod.status import PodState, assess
from kpo_async.resources import Pod, pod_from_dict

Json = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who wants the pod: one try of one task instance.

    `id` is the value of the owner annotation. `earlier_tries` is a label selector for pods that earlier tries of the
    same task may have left behind, empty when there was none. `reattach`: take over such a pod while it lives, instead
    of deleting it.
    """

    id: str
    earlier_tries: str = ""
    reattach: bool = True


async def ensure_pod(client: Client, manifest: Json, owner: Owner) -> Json:
    """The owner's pod as the API server has it: created now, created before, or taken over from an earlier try.

    Never makes a second pod for one owner: the name is the same each time, so a create whose answer was lost shows as
    a conflict with ourselves. Raises `PodConflictError` when the name belongs to somebody else, `ApiError` for what the
    server refuses.
    """
    namespace = manifest["metadata"]["namespace"]
    if owner.earlier_tries and (found := await _take_over(client, namespace, owner)):
        return found
    while True:
        try:
            return await client.create("pods", manifest, namespace)
        except ConflictError:
            existing = await _existing(client, namespace, manifest["metadata"]["name"])
            if existing is None:
                continue
            if _owner_of(existing) != owner.id:
                raise _taken(existing) from None
            if not existing["metadata"].get("deletionTimestamp"):
                return existing
            # A killed run of this very try left it: its name is free once it is gone.
            await _until_gone(client, existing)


async def _take_over(client: Client, namespace: str, owner: Owner) -> Json | None:
    """The living pod of an earlier try, now ours; what cannot be taken over is deleted."""
    pods = (await client.list("pods", namespace, label_selector=owner.earlier_tries))["items"]
    for pod in pods:
        metadata = pod["metadata"]
        if metadata.get("deletionTimestamp") or _owner_of(pod) == owner.id or _owner_of(pod) is None:
            continue
        alive = pod["status"].get("phase") in ("Pending", "Running")
        if alive and owner.reattach:
            log.info("Taking over pod %s/%s, which an earlier try left running", namespace, metadata["name"])
            patch = {"metadata": {"annotations": {OWNER_ANNOTATION: owner.id}, "resourceVersion": metadata["resourceVersion"]}}
            with suppress(ConflictError, NotFoundError):
                return await client.patch("pods", metadata["name"], patch, namespace)
        elif alive:
            log.info("Deleting pod %s/%s, which an earlier try left running", namespace, metadata["name"])
            await _delete(client, namespace, metadata["name"], metadata["uid"], None)
    return None


async def _existing(client: Client, namespace: str, name: str) -> Json | None:
    try:
        return await client.get("pods", name, namespace)
    except NotFoundError:
        return None


def _owner_of(pod: Json) -> str | None:
    owner: str | None = (pod["metadata"].get("annotations") or {}).get(OWNER_ANNOTATION)
    return owner


def _taken(pod: Json) -> PodConflictError:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    owner = _owner_of(pod)
    whose = "another task's try" if owner else "somebody else"
    return PodConflictError(
        f"pod {namespace}/{name} exists already and belongs to {whose}: give this task another `name`, "
        "keep `random_name_suffix=True`, or delete that pod",
        category="NameConflict",
    )


async def _until_gone(client: Client, pod: Json) -> None:
    metadata = pod["metadata"]
    async with follow(client, metadata["namespace"], metadata["name"], metadata["uid"], selector=SELECTOR) as feed:
        while (await feed.next()).presence not in (Presence.GONE, Presence.VANISHED):
            pass


async def wait(
    client: Client, task: PodTask, callbacks: Callbacks, *, formatter: Formatter | None = None
) -> Outcome:
    """See the pod through to the end of its base container, showing its logs meanwhile, and say how it went.

    Asks nothing of the API server but the shared watch and the log streams. A pod whose task ran out of time is stopped.
    """
    async with follow(
        client, task.namespace, task.name, task.uid, selector=SELECTOR, poll_interval=task.poll_interval
    ) as feed:
        async with shown_logs(client, task, callbacks, formatter) as shown:
            end = await until_end(task, feed, Narrator(task, callbacks, client))
            result = await _early_result(task, feed, end)
            await shown.drain()
    if end.ending is Ending.TIMED_OUT:
        await _delete(client, task.namespace, task.name, task.uid, task.grace_period)
    return Outcome(
        ending=end.ending,
        exit_code=end.state.exit_code,
        category=end.diagnosis.category,
        message=end.diagnosis.text(),
        result=result,
        cursors=shown.cursors,
        logs_complete=shown.complete,
    )


async def finish(client: Client, task: PodTask, outcome: Outcome) -> None:
    """Do with the pod what `on_finish_action` says; a kept pod is marked done and leaves the shared watch.

    A pod that still runs when its task has failed is stopped unless `keep_pod` was asked for. Idempotent.
    """
    if await _is_kept(client, task, outcome):
        await _mark_done(client, task)
    else:
        await _delete(client, task.namespace, task.name, task.uid, task.grace_period)


async def _is_kept(client: Client, task: PodTask, outcome: Outcome) -> bool:
    if task.on_finish_action == OnFinishAction.KEEP_POD:
        return True
    if task.on_finish_action == OnFinishAction.DELETE_POD:
        return False
    if task.on_finish_action == OnFinishAction.DELETE_SUCCEEDED_POD and outcome.succeeded:
        return False
    pod = await _existing(client, task.namespace, task.name)
    return pod is not None and not assess(pod_from_dict(pod), task.base_container).active(task.base_container)


async def _mark_done(client: Client, task: PodTask) -> None:
    patch = {"metadata": {"uid": task.uid, "labels": {DONE_LABEL: TRUE, "already_checked": "True"}}}
    with suppress(NotFoundError, ConflictError):
        await client.patch("pods", task.name, patch, task.namespace)


async def _delete(client: Client, namespace: str, name: str, uid: str, grace_period: int | None) -> None:
    """Delete the pod with this uid; one that is gone, or another one of the same name, is fine."""
    with suppress(NotFoundError, ConflictError):
        await client.delete("pods", name, namespace, uid=uid, grace_period_seconds=grace_period)


async def kill(client: Client, task: PodTask) -> None:
    """The user killed the task: stop its pod, unless `on_kill_action` says to leave it."""
    if task.on_kill_action == OnKillAction.DELETE_POD:
        log.info("Deleting pod %s/%s: its task was killed", task.namespace, task.name)
        await _delete(client, task.namespace, task.name, task.uid, task.grace_period)
