"""One pod for one try: made, found again, taken over, deleted under its uid. Every step may be repeated by anybody.

The name follows from the try, so whether an earlier create arrived is a question to the API server, not a guess; from
then on the pod is known by its uid.
"""

from __future__ import annotations

import logging
from contextlib import suppress
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
from kpo_async.kube.watch.informer import follow
from kpo_async.pod.diagnose import diagnose_refusal
from kpo_async.pod.names import CURSORS_ANNOTATION, OWNER_ANNOTATION, SELECTOR, mark
from kpo_async.pod.status import assess
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """Who wants the pod: one try of one task instance.

    `id` is the value of the owner annotation. `siblings` is a label selector for the unfinished pods of all tries of
    the task. `reattach`: a pod that an earlier try left running is taken over instead of deleted. `base` is the name of
    the main container.
    """

    id: str
    siblings: str
    try_number: int = 1
    reattach: bool = True
    base: str = "base"


async def ensure_pod(client: Client, manifest: Json, owner: Owner) -> Json:
    """The owner's pod as the API server has it: created now, created before, or taken over from an earlier try.

    Never makes a second pod for one owner: the name is the same each time, so a create whose answer was lost shows as
    a conflict with ourselves. Raises `PodConflictError` when the name belongs to somebody else, `ApiError` for what the
    server refuses.
    """
    manifest = {**manifest, "metadata": {**manifest["metadata"]}}
    # A user's hook that writes the labels anew may have taken our marks off.
    mark(manifest["metadata"], owner.id)
    namespace = manifest["metadata"]["namespace"]
    if owner.try_number > 1 and (inherited := await _take_over(client, namespace, owner)):
        return inherited
    while True:
        try:
            return await client.create("pods", manifest, namespace)
        except ForbiddenError as error:
            raise _refusal(error, manifest) from error
        except ConflictError:
            found = await existing(client, namespace, manifest["metadata"]["name"])
            if found is None:
                continue
            if _owner_of(found) != owner.id:
                raise _taken(found) from None
            if not found["metadata"].get("deletionTimestamp"):
                return found
            # A killed run of this very try left it: its name is free once it is gone.
            await _until_gone(client, found)


async def _take_over(client: Client, namespace: str, owner: Owner) -> Json | None:
    """The living pod of an earlier try, now ours; what is not taken over is deleted."""
    inherited: Json | None = None
    try:
        siblings = await _siblings(client, namespace, owner)
    except ForbiddenError as error:
        log.warning("Whether an earlier try left a pod running cannot be known, a new one is created: %s", error)
        return None
    for pod in siblings:
        metadata = pod["metadata"]
        if not _lives(pod, owner):
            continue
        if owner.reattach and inherited is None:
            log.info("Taking over pod %s/%s, which an earlier try left running", namespace, metadata["name"])
            inherited = await _sign(client, pod, owner)
        elif _owner_of(pod) != owner.id:
            log.info("Deleting pod %s/%s, which an earlier try left running", namespace, metadata["name"])
            await delete(client, namespace, metadata["name"], metadata["uid"], None)
    return inherited


async def _siblings(client: Client, namespace: str, owner: Owner) -> list[Json]:
    found: list[Json] = (await client.list("pods", namespace, label_selector=owner.siblings))["items"]
    return found


def _lives(pod: Json, owner: Owner) -> bool:
    deleted = pod["metadata"].get("deletionTimestamp")
    return not deleted and not assess(pod_from_dict(pod), owner.base).verdict.ended


async def _sign(client: Client, pod: Json, owner: Owner) -> Json | None:
    """Write the owner on the pod, or None when it has ended or went meanwhile."""
    namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))
    # A new try has a log of its own, in which the pod's is shown from its beginning.
    annotations = {OWNER_ANNOTATION: owner.id, CURSORS_ANNOTATION: None}
    latest: Json | None = pod
    while latest and latest["metadata"]["uid"] == uid and _lives(latest, owner):
        signed = {"annotations": annotations, "resourceVersion": latest["metadata"]["resourceVersion"]}
        try:
            return await client.patch("pods", name, {"metadata": signed}, namespace)
        except (ConflictError, NotFoundError):
            # A pod that is starting changes all the time: one more look tells whether it is still there to be had.
            latest = await existing(client, namespace, name)
    return None


async def existing(client: Client, namespace: str, name: str) -> Json | None:
    """The pod of this name, or None."""
    try:
        return await client.get("pods", name, namespace)
    except NotFoundError:
        return None


def _owner_of(pod: Json) -> str | None:
    owner: str | None = (pod["metadata"].get("annotations") or {}).get(OWNER_ANNOTATION)
    return owner


def _refusal(error: ForbiddenError, manifest: Json) -> KpoError:
    """What a refused create is about: a quota and Pod Security answer 403 as a missing right does."""
    metadata = manifest["metadata"]
    diagnosis = diagnose_refusal(str(error), name=metadata["name"], namespace=metadata["namespace"])
    return error if diagnosis is None else PodStartError(diagnosis.text(), category=diagnosis.category)


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
        while not (await feed.next()).presence.final:
            pass


async def abandon(client: Client, manifest: Json, owner: Owner) -> None:
    """Stop the pod that `ensure_pod` got or may have got for this owner, when nobody will look after it."""
    namespace = manifest["metadata"]["namespace"]
    # The one that was made is found without the right to list, and without the labels that a user's hook may take off.
    made = await existing(client, namespace, manifest["metadata"]["name"])
    found = [] if made is None else [made]
    with suppress(ForbiddenError):  # then none was taken over either
        found += await _siblings(client, namespace, owner)
    names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in found if _owner_of(pod) == owner.id}
    for uid, name in names.items():
        await delete(client, namespace, name, uid, None)


async def delete(client: Client, namespace: str, name: str, uid: str, grace_period: int | None) -> None:
    """Delete the pod with this uid; one that is gone, or another one of the same name, is fine."""
    with suppress(NotFoundError, ConflictError):
        await client.delete("pods", name, namespace, uid=uid, grace_period_seconds=grace_period)


async def last_pod(client: Client, task: PodTask) -> Json:
    """The pod for users' callbacks; only its name when it is gone."""
    found = await existing(client, task.namespace, task.name)
    if found is None or found["metadata"]["uid"] != task.uid:
        metadata = {"name": task.name, "namespace": task.namespace, "uid": task.uid}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    return found


def is_active(pod: Json, base: str) -> bool:
    """Whether any of the pod's main containers runs or may yet run."""
    return assess(pod_from_dict(pod), base).active
