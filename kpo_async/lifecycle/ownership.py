"""One pod for one try: created, found again, adopted, deleted under its uid. Every step may be repeated by any process.

The name follows from the try, so whether an earlier create arrived is a question to the API server, not a guess; from
then on the pod is known by its uid.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

from kpo_async.api_types import pod_from_dict
from kpo_async.exceptions import (
    ConflictError,
    ForbiddenError,
    KpoError,
    NotFoundError,
    PodConflictError,
    PodStartError,
)
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import Subscription
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.diagnose import diagnose_refusal
from kpo_async.pod.names import (
    CURSORS_ANNOTATION,
    OWNER_ANNOTATION,
    SELECTOR,
    TASK_ANNOTATION,
    TaskIdentity,
    mark,
    siblings,
)
from kpo_async.pod.status import assess
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who wants the pod: one try of one task instance, and what its pod's annotation says about it.

    `installation` is the id of the Airflow that the task belongs to, None if it has none. `reattach`: a pod that an
    earlier try left running is adopted instead of deleted.
    """

    task: TaskIdentity
    record: TaskRecord
    installation: str | None = None
    reattach: bool = True

    @property
    def id(self) -> str:
        """The value of the owner annotation."""
        return self.task.owner

    def mark(self, metadata: Json) -> None:
        """Write on a pod's metadata whose it is."""
        mark(metadata, self.id, installation=self.installation, record=self.record.to_json())


def pod_of(client: Client, task: PodTask) -> PodHandle:
    """Return the handle of the task's pod."""
    return PodHandle(client, task.namespace, task.name, task.uid)


def subscribe(pod: PodHandle, task: PodTask) -> AbstractAsyncContextManager[Subscription]:
    """Return a subscription of the caller's own to the task's pod, on the watch that all tasks share."""
    return pod.subscribe(selector=SELECTOR, poll_interval=task.poll_interval)


async def ensure_pod(client: Client, manifest: Json, owner: Owner) -> Json:
    """Return the owner's pod as the API server has it: created now, created before, or adopted from an earlier try.

    Never creates a second pod for one owner: the name is the same each time, so a create whose answer was lost shows as
    a conflict with ourselves. Raises `PodConflictError` when the name belongs to another owner, `PodStartError` when a
    quota or an admission policy forbids the pod, `ApiError` for what else the server refuses.
    """
    manifest = {**manifest, "metadata": {**manifest["metadata"]}}
    # A user's hook that replaces the labels may have removed our marks.
    owner.mark(manifest["metadata"])
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    if owner.task.try_number > 1 and (adopted := await _adopt(client, namespace, owner)):
        return adopted
    while True:
        try:
            return await client.create("pods", manifest, namespace)
        except ForbiddenError as error:
            raise _refusal(error, manifest) from error
        except ConflictError:
            found = await _get_by_name(client, namespace, name)
            if found is None:
                continue
            if _owner_of(found) != owner.id:
                raise _name_conflict(found) from None
            if not found["metadata"].get("deletionTimestamp"):
                return found
            # A killed run of this very try left it: its name is free once it is gone.
            await _wait_until_gone(PodHandle.of(client, found))


async def _adopt(client: Client, namespace: str, owner: Owner) -> Json | None:
    """Claim the live pod of an earlier try, if there is one, and delete the live ones that are not adopted."""
    adopted: Json | None = None
    try:
        pods = await _siblings(client, namespace, owner)
    except ForbiddenError as error:
        log.warning(
            "Cannot find out whether an earlier try left a pod running, so a new pod is created: %s. "
            "Grant the verb `list` on pods",
            error,
        )
        return None
    for found in pods:
        pod = PodHandle.of(client, found)
        if not _is_live(found, owner):
            continue
        if owner.reattach and adopted is None:
            log.info("Adopting pod %s, which an earlier try left running", pod)
            adopted = await _claim(pod, found, owner)
        elif _owner_of(found) != owner.id:
            log.info("Deleting pod %s, which an earlier try left running", pod)
            await pod.delete()
    return adopted


async def _siblings(client: Client, namespace: str, owner: Owner) -> list[Json]:
    found: list[Json] = (await client.list("pods", namespace, label_selector=siblings(owner.task)))["items"]
    return found


def _is_live(pod: Json, owner: Owner) -> bool:
    deleted = pod["metadata"].get("deletionTimestamp")
    return not deleted and not assess(pod_from_dict(pod), owner.record.base).verdict.ended


async def _claim(pod: PodHandle, found: Json, owner: Owner) -> Json | None:
    """Write the owner on the pod and return it; None when it has ended or is gone meanwhile."""
    # A new try has a log of its own, in which the pod's is emitted from its beginning.
    annotations = {OWNER_ANNOTATION: owner.id, TASK_ANNOTATION: owner.record.to_json(), CURSORS_ANNOTATION: None}
    latest: Json | None = found
    while latest and _is_live(latest, owner):
        version = latest["metadata"]["resourceVersion"]
        try:
            return await pod.patch({"metadata": {"annotations": annotations, "resourceVersion": version}})
        except (ConflictError, NotFoundError):
            # A pod that is starting changes all the time: get it again, and try with its newer version.
            latest = await pod.get()
    return None


async def _get_by_name(client: Client, namespace: str, name: str) -> Json | None:
    """Return the pod of this name, whatever its uid; None when there is none."""
    try:
        return await client.get("pods", name, namespace)
    except NotFoundError:
        return None


def _owner_of(pod: Json) -> str | None:
    owner: str | None = (pod["metadata"].get("annotations") or {}).get(OWNER_ANNOTATION)
    return owner


def _refusal(error: ForbiddenError, manifest: Json) -> KpoError:
    """Return what a refused create is about: a quota and Pod Security answer 403 as a missing right does."""
    metadata = manifest["metadata"]
    diagnosis = diagnose_refusal(str(error), name=metadata["name"], namespace=metadata["namespace"])
    return error if diagnosis is None else PodStartError(diagnosis.text(), category=diagnosis.category)


def _name_conflict(pod: Json) -> PodConflictError:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    other = "another task's try" if _owner_of(pod) else "something other than kpo-async"
    return PodConflictError(
        f"pod {namespace}/{name} exists already and belongs to {other}: give this task another `name`, "
        "keep `random_name_suffix=True`, or delete that pod",
        category="NameConflict",
    )


async def _wait_until_gone(pod: PodHandle) -> None:
    async with pod.subscribe(selector=SELECTOR) as feed:
        while not (await feed.next()).presence.final:
            pass


async def abandon(client: Client, manifest: Json, owner: Owner) -> None:
    """Delete the pod that `ensure_pod` got or may have got for this owner: no process will look after it."""
    namespace = manifest["metadata"]["namespace"]
    # The pod that was created is found by name: without the right to list, and without labels that a hook may remove.
    created = await _get_by_name(client, namespace, manifest["metadata"]["name"])
    found = [] if created is None else [created]
    with suppress(ForbiddenError):  # then none was adopted either
        found += await _siblings(client, namespace, owner)
    for pod in {PodHandle.of(client, item) for item in found if _owner_of(item) == owner.id}:
        await pod.delete()


async def last_pod(client: Client, task: PodTask) -> Json:
    """Return the task's pod for the user's callbacks; only its metadata when it is gone."""
    metadata = {"name": task.name, "namespace": task.namespace, "uid": task.uid}
    return await pod_of(client, task).get() or {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}


def is_active(pod: Json, base: str) -> bool:
    """Whether any of the pod's main containers runs or may yet run."""
    return assess(pod_from_dict(pod), base).active
