"""One pod for one try: created, found again, adopted, deleted under its uid. Every step may be repeated by any process.

The name follows from the try, so whether an earlier create arrived is a question to the API server, not a guess; from
then on the pod is known by its uid. Which of a task instance's earlier pods a try may adopt is decided in `_adopt`.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from dataclasses import replace as replace_dataclass

from msgspec.structs import replace

from kpo_async.api_types import pod_from_dict
from kpo_async.exceptions import (
    ApiError,
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
from kpo_async.lifecycle.creation import ALREADY_EXISTS, create, creations_answered
from kpo_async.lifecycle.disposal import end, finish, is_done, owner_id
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.again import attempt_of
from kpo_async.pod.companions import assess_all, declared
from kpo_async.pod.diagnose import diagnose_refusal
from kpo_async.pod.names import (
    CURSORS_ANNOTATION,
    INSTALLATION_LABEL,
    OWNER_ANNOTATION,
    SELECTOR,
    TASK_ANNOTATION,
    TaskIdentity,
    is_users_own,
    mark,
    name_in_try,
    names_of_try,
    siblings,
)
from kpo_async.pod.status import PodState, Verdict
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)

EARLIER_TRIES = 10
"""How many of the latest tries are asked for by name where pods cannot be listed."""


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

    def is_sibling(self, pod: Json) -> bool:
        """Whether the pod is one of this task instance, of any try. Pods of another Airflow are not."""
        record = TaskRecord.of_pod(pod)
        installation = (pod["metadata"].get("labels") or {}).get(INSTALLATION_LABEL)
        # Pods that older versions made have neither mark; the label selector has found them.
        return installation in (None, self.installation) and (record is None or record.is_of(self.task))


def pod_of(client: Client, task: PodTask) -> PodHandle:
    """Return the handle of the task's pod."""
    return PodHandle(client, task.namespace, task.name, task.uid)


def created_at(client: Client, pod: Json) -> float:
    """Return when a pod was created, on this machine's clock, in seconds since the epoch; 0 if that is not known."""
    created = parse_time(pod["metadata"].get("creationTimestamp"))
    return 0.0 if created is None else (created - client.clock.ahead).timestamp()


def subscribe(pod: PodHandle, task: PodTask) -> AbstractAsyncContextManager[Subscription]:
    """Return a subscription of the caller's own to the task's pod, on the watch that all tasks share."""
    return pod.subscribe(selector=SELECTOR, poll_interval=task.poll_interval)


async def ensure_pod(client: Client, manifest: Json, owner: Owner) -> Json:
    """Return the owner's pod as the API server has it: created now, created before, or adopted from an earlier try.

    Never creates a second pod for one owner: the name is the same each time, so a create whose answer was lost shows as
    a conflict with ourselves. A pod that is done is not found again: the next one of its try gets another name. Raises
    `PodConflictError` when the user's own name for the pod is taken, `PodStartError` when a quota or an admission
    policy forbids the pod, `ApiError` for what else the server refuses.
    """
    manifest = {**manifest, "metadata": {**manifest["metadata"]}}
    owner = _with_companions(owner, manifest)
    # A user's hook that replaces the labels may have removed our marks.
    owner.mark(manifest["metadata"])
    if owner.task.try_number > 1 and (adopted := await _adopt(client, manifest, owner)):
        return adopted
    conflict: Json | None = None
    for name in names_of_try(manifest["metadata"]["name"], owner.task):
        manifest["metadata"]["name"] = name
        pod = await _create_or_find(client, manifest, owner)
        if owner_id(pod) == owner.id and not is_done(pod):
            return pod
        conflict = pod
    assert conflict is not None
    raise name_conflict(conflict)


def _with_companions(owner: Owner, manifest: Json) -> Owner:
    """Return the owner with a record of the companions that the manifest declares.

    A manifest that was made of a live pod has that pod's record: its containers may have been injected by webhooks.
    """
    earlier = TaskRecord.of_pod(manifest)
    names = declared(manifest, owner.record.base_container) if earlier is None else earlier.companions
    return replace_dataclass(owner, record=replace(owner.record, companions=names))


async def _create_or_find(client: Client, manifest: Json, owner: Owner) -> Json:
    """Create the pod, or return the one that has its name already."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    while True:
        try:
            return await create(client, manifest)
        except ForbiddenError as error:
            raise _refusal(error, manifest) from error
        except ConflictError as error:
            if error.reason != ALREADY_EXISTS:
                raise
            found = await _get_by_name(client, namespace, name)
        if found is not None:
            if not _frees_its_name(found, owner):
                return found
            await _wait_until_gone(PodHandle.of(client, found))


def _frees_its_name(pod: Json, owner: Owner) -> bool:
    """Whether the owner's pod must wait for its name: a killed run left this one, and it is being deleted."""
    if not pod["metadata"].get("deletionTimestamp") or is_done(pod):
        return False
    left_by = owner_id(pod)
    return left_by == owner.id or (left_by is not None and is_users_own(pod["metadata"]["name"], owner.task))


async def _adopt(client: Client, manifest: Json, owner: Owner) -> Json | None:
    """Claim the pod that an earlier try lost with its worker, and see to the other pods of earlier tries.

    A try that was cleared is not continued: to clear means to run again. It is known by Airflow's `max_tries`, which is
    raised by clearing and left by a retry. Pods whose base container has ended are kept or deleted as their own task
    said; the others are deleted.
    """
    adopted: Json | None = None
    pods = await _siblings(client, manifest, owner)
    for found in sorted(pods, key=lambda pod: owner_id(pod) != owner.id):  # first what this try has already
        latest = found
        if owner.reattach and adopted is None and _record(found, owner).max_tries == owner.record.max_tries:
            latest = await _claim(client, found, owner)
        if owner_id(latest) == owner.id:
            adopted = latest
        elif not _is_over(latest):
            await _see_to(client, latest, owner)
    return adopted


async def _siblings(client: Client, manifest: Json, owner: Owner) -> list[Json]:
    """Return this task instance's pods, of all its tries, that are neither done nor being deleted."""
    namespace = manifest["metadata"]["namespace"]
    try:
        found: list[Json] = (await client.list("pods", namespace, label_selector=siblings(owner.task)))["items"]
    except ForbiddenError as error:
        found = await _siblings_by_name(client, manifest, owner, error)
    return [pod for pod in found if owner.is_sibling(pod) and not _is_over(pod)]


async def _siblings_by_name(client: Client, manifest: Json, owner: Owner, error: ForbiddenError) -> list[Json]:
    """Return what `_siblings` wants without the right to list pods: the names of the latest tries are known."""
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    first = max(1, owner.task.try_number - EARLIER_TRIES)
    names = {name_in_try(name, owner.task, number) for number in range(first, owner.task.try_number + 1)}
    try:
        found = [await _get_by_name(client, namespace, name) for name in sorted(names)]
    except ForbiddenError:
        log.warning("Cannot find out whether an earlier try left a pod: %s. Grant the verbs `get` and `list`", error)
        return []
    return [pod for pod in found if pod is not None and TaskRecord.of_pod(pod) is not None]


def _is_over(pod: Json) -> bool:
    return is_done(pod) or bool(pod["metadata"].get("deletionTimestamp"))


def _record(pod: Json, owner: Owner) -> TaskRecord:
    """Return what the pod says of its task; what its owner says, for a pod that an older version made."""
    return TaskRecord.of_pod(pod) or owner.record


def _state(pod: Json, owner: Owner) -> PodState:
    return assess_all(pod_from_dict(pod), _record(pod, owner))


async def _claim(client: Client, found: Json, owner: Owner) -> Json:
    """Write the owner on the pod, and return it as it is then: still the earlier try's if it has ended or is gone."""
    pod, record = PodHandle.of(client, found), _record(found, owner)
    record_of_owner = replace(owner.record, companions=record.companions)
    # A new try has a log of its own, in which the pod's is emitted from its beginning.
    annotations = {OWNER_ANNOTATION: owner.id, TASK_ANNOTATION: record_of_owner.to_json(), CURSORS_ANNOTATION: None}
    while owner_id(found) != owner.id and not _is_over(found) and not _state(found, owner).verdict.ended:
        version = found["metadata"]["resourceVersion"]
        try:
            claimed = await pod.patch({"metadata": {"annotations": annotations, "resourceVersion": version}})
        except (ConflictError, NotFoundError):
            # A pod that is starting changes all the time: get it again, and try with its newer version.
            latest = await pod.get()
            if latest is None:
                break
            found = latest
        else:
            log.info("Adopted pod %s, which an earlier try left running", pod)
            return claimed
    return found


async def _see_to(client: Client, found: Json, owner: Owner) -> None:
    """Finish the pod of an earlier try that has ended, as its own task said, and delete one that still runs."""
    pod, record, state = PodHandle.of(client, found), _record(found, owner), _state(found, owner)
    if state.verdict.ended:
        log.info("Pod %s of an earlier try has ended: on_finish_action=%r", pod, str(record.on_finish_action))
        await finish(pod, record, succeeded=state.verdict is Verdict.SUCCEEDED)
    else:
        log.info("Deleting pod %s, which an earlier try left running", pod)
        await pod.delete(grace_period=record.grace_period)


async def _get_by_name(client: Client, namespace: str, name: str) -> Json | None:
    """Return the pod of this name, whatever its uid; None when there is none."""
    try:
        return await client.get("pods", name, namespace)
    except NotFoundError:
        return None


def _refusal(error: ForbiddenError, manifest: Json) -> KpoError:
    """Return what a refused create is about: a quota and Pod Security answer 403 as a missing right does."""
    metadata = manifest["metadata"]
    diagnosis = diagnose_refusal(str(error), name=metadata["name"], namespace=metadata["namespace"])
    return error if diagnosis is None else PodStartError(diagnosis.text(), category=diagnosis.category)


def name_conflict(pod: Json) -> PodConflictError:
    """Return the error that the wanted name is that of `pod`."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    other = "another run or try of a task" if owner_id(pod) else "something other than kpo-async"
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
    """Finish the pod that `ensure_pod` got or may have got for this owner: no process will look after it."""
    for found in await _known_pods(client, manifest, owner):
        if owner_id(found) == owner.id:
            succeeded = _state(found, owner).verdict is Verdict.SUCCEEDED
            await finish(PodHandle.of(client, found), _record(found, owner), succeeded=succeeded)


async def kill_all(client: Client, manifest: Json, owner: Owner) -> None:
    """Kill the pods of all tries of a task that its user ended before this try knew its pod."""
    for found in await _known_pods(client, manifest, owner):
        await end(PodHandle.of(client, found), _record(found, owner), owner=owner_id(found) or "")


async def kill_own(client: Client, manifest: Json, owner: Owner) -> None:
    """Kill the pods of this try, which its user ended before it knew its pod."""
    for found in await _known_pods(client, manifest, owner):
        if owner_id(found) == owner.id:
            await end(PodHandle.of(client, found), _record(found, owner), owner=owner.id)


async def own_pod(client: Client, manifest: Json, owner: Owner) -> Json | None:
    """Return the pod of this try's latest attempt, which another process created; None if there is none."""
    found = [pod for pod in await _known_pods(client, manifest, owner) if owner_id(pod) == owner.id]
    return max(found, key=attempt_of, default=None)


async def _known_pods(client: Client, manifest: Json, owner: Owner) -> list[Json]:
    """Return the task instance's pods; this try's are found by name, too, as a hook may remove the labels."""
    await creations_answered(owner.id)
    found = {pod["metadata"]["uid"]: pod for pod in await _siblings(client, manifest, owner)}
    for name in names_of_try(manifest["metadata"]["name"], owner.task):
        pod = await _get_by_name(client, manifest["metadata"]["namespace"], name)
        if pod is None:
            break
        if owner_id(pod) == owner.id and not _is_over(pod):
            found[pod["metadata"]["uid"]] = pod
    return list(found.values())


async def last_pod(client: Client, task: PodTask) -> Json:
    """Return the task's pod for people to look at; only its metadata when it is gone or cannot be read."""
    pod = pod_of(client, task)
    try:
        found = await pod.get()
    except ApiError as error:
        log.warning("Pod %s is shown without its spec and status: %s", pod, error)
        found = None
    metadata = {"name": task.name, "namespace": task.namespace, "uid": task.uid}
    return found or {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
