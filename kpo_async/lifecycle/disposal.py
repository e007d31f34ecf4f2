"""What becomes of a pod whose task is over: `finish` by `on_finish_action`, `kill` by `on_kill_action`, or `stop`.

Each may be repeated by any process, and none touches another pod of the same name.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Protocol

from kpo_async.api_types import pod_from_dict
from kpo_async.exceptions import ApiError, ConflictError, ForbiddenError, NotFoundError
from kpo_async.json_types import Json
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.pod.companions import Counted, assess_all
from kpo_async.pod.names import DONE_LABEL, OWNER_ANNOTATION, TRUE
from kpo_async.pod.status import PodState, Verdict, assess
from kpo_async.pod_task import OnFinishAction, OnKillAction

log = logging.getLogger(__name__)

DONE: Json = {"metadata": {"labels": {DONE_LABEL: TRUE, "already_checked": "True"}}}
"""The patch that takes a kept pod out of the shared watch; `already_checked` is the incumbent's label."""


class Policy(Counted, Protocol):
    """What the task's parameters say about its pod: a `PodTask`, or the `TaskRecord` on the pod."""

    @property
    def on_finish_action(self) -> OnFinishAction: ...
    @property
    def on_kill_action(self) -> OnKillAction: ...
    @property
    def grace_period(self) -> int | None: ...


class Finish(Protocol):
    """`finish`, or what stands for it."""

    async def __call__(self, pod: PodHandle, policy: Policy, *, succeeded: bool) -> None: ...


async def finish(pod: PodHandle, policy: Policy, *, succeeded: bool) -> None:
    """Keep or delete the pod, by `on_finish_action`. A kept pod is marked done and leaves the shared watch.

    A pod that still runs when its task has failed is deleted unless `keep_pod` was asked for. When the API server
    refuses, a warning says which pod is left and why: how the task ended does not depend on it.
    """
    try:
        if await _is_kept(pod, policy, succeeded=succeeded):
            with suppress(NotFoundError, ConflictError):
                await pod.patch(DONE)
                log.info("Pod %s is kept (on_finish_action=%r)", pod, str(policy.on_finish_action))
        else:
            await pod.delete(grace_period=policy.grace_period)
            log.info("Pod %s is deleted (on_finish_action=%r)", pod, str(policy.on_finish_action))
    except ApiError as error:
        log.warning(
            "Pod %s is left as it is, against on_finish_action=%r: %s", pod, str(policy.on_finish_action), error
        )


async def _is_kept(pod: PodHandle, policy: Policy, *, succeeded: bool) -> bool:
    if policy.on_finish_action == OnFinishAction.KEEP_POD:
        return True
    if policy.on_finish_action == OnFinishAction.DELETE_POD:
        return False
    if policy.on_finish_action == OnFinishAction.DELETE_SUCCEEDED_POD and succeeded:
        return False
    found = await pod.get()
    return found is not None and not assess(pod_from_dict(found), policy.base_container).active


async def kill(pod: PodHandle, policy: Policy, *, owner: str) -> PodState | None:
    """Delete the pod of `owner`, whose task was ended by its user, unless `on_kill_action` is to keep it.

    A pod whose base container has ended is `finish`'s, so nothing is done and its state is returned. None is returned
    for a pod that was killed, and for one that is gone, done, or another try's by now. An empty `owner` is not compared
    (rows of older versions have none). Raises `ApiError`.
    """
    try:
        found = await pod.get()
    except ForbiddenError:
        log.debug("Pod %s is killed without a look at it, which needs the verb `get` on pods", pod)
    else:
        if found is None or is_done(found) or (owner and owner_id(found) != owner):
            return None
        state = assess_all(pod_from_dict(found), policy)
        if state.verdict.ended:
            return state
    if policy.on_kill_action == OnKillAction.DELETE_POD:
        await pod.delete(grace_period=policy.grace_period)
        log.info("Deleted pod %s: its task was killed", pod)
    else:
        log.info("Leaving pod %s as it is (on_kill_action=%r): its task was killed", pod, str(policy.on_kill_action))
    return None


async def end(pod: PodHandle, policy: Policy, *, owner: str) -> None:
    """Kill the pod of a task that its user ended, or `finish` it if its base container has ended. Raises `ApiError`."""
    ended = await kill(pod, policy, owner=owner)
    if ended is not None:
        await finish(pod, policy, succeeded=ended.verdict is Verdict.SUCCEEDED)


async def stop(pod: PodHandle, policy: Policy) -> None:
    """Delete a pod that has run out of time. A warning says why, when the API server refuses."""
    try:
        await pod.delete(grace_period=policy.grace_period)
    except ApiError as error:
        log.warning("Pod %s runs on, although its task's execution_timeout has passed: %s", pod, error)


def is_done(pod: Json) -> bool:
    """Whether the pod was kept by `finish`: nothing is to be done about it any more."""
    return (pod["metadata"].get("labels") or {}).get(DONE_LABEL) == TRUE


def owner_id(pod: Json) -> str | None:
    """Return the try whose pod it is (`TaskIdentity.owner`); None for a pod of something else."""
    owner: str | None = (pod["metadata"].get("annotations") or {}).get(OWNER_ANNOTATION)
    return owner
