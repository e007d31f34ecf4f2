"""Turn a pod as the API server has it into a manifest from which it can be created again. Pure.

What the server, the scheduler and the kubelet added is taken out, so that they add it anew. The rest stays as it was
created, with what admission controllers and a `pod_mutation_hook` did to it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import msgspec

from kpo_async.json_types import Json
from kpo_async.pod.names import (
    ATTEMPT_LABEL,
    CURSORS_ANNOTATION,
    DISRUPTIONS_ANNOTATION,
    DONE_LABEL,
    UNGATED_ANNOTATION,
)
from kpo_async.pod.quantity import format_bytes, parse_quantity
from kpo_async.pod.status import COMPANIONS_DEADLINE

_KEPT_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
_ASSIGNED = ("nodeName", "ephemeralContainers", "priority", "preemptionPolicy")
"""Fields of the spec that are not the creator's: set by the scheduler, by people who debug, by the priority class."""
_TOKEN_VOLUME = "kube-api-access-"
"""How the volume with a service account's token is called, which the server adds."""
AVOID_WEIGHT = 100
"""The highest weight of a preference: the scheduler avoids the node if any other will do."""


class MemoryGrowth(msgspec.Struct, frozen=True):
    """How much more memory the base container gets after it ran out of it: `memory` times as much, up to `max`."""

    memory: float
    max: str | None = None
    """A quantity."""


def manifest_again(pod: Json) -> Json | None:
    """Return the manifest of a pod like `pod`, which is not changed; None when it cannot be known any more.

    That is so once this library has stopped the pod's other containers, which overwrites its activeDeadlineSeconds.
    """
    if pod["spec"].get("activeDeadlineSeconds") == COMPANIONS_DEADLINE:
        return None
    spec = copy.deepcopy({key: value for key, value in pod["spec"].items() if key not in _ASSIGNED})
    spec["volumes"] = [volume for volume in spec.get("volumes") or () if not volume["name"].startswith(_TOKEN_VOLUME)]
    for container in _containers(spec):
        mounts = container.get("volumeMounts") or ()
        container["volumeMounts"] = [mount for mount in mounts if not mount["name"].startswith(_TOKEN_VOLUME)]
    metadata = copy.deepcopy({key: pod["metadata"][key] for key in _KEPT_METADATA if key in pod["metadata"]})
    for field, marks in (
        ("labels", (DONE_LABEL, "already_checked")),
        ("annotations", (CURSORS_ANNOTATION, UNGATED_ANNOTATION)),
    ):
        metadata[field] = {key: value for key, value in (metadata.get(field) or {}).items() if key not in marks}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def numbered(manifest: Json, name: str, attempt: int, disruptions: int) -> Json:
    """Return the manifest of that attempt, the first being 1, which follows so many disruptions."""
    metadata = manifest["metadata"]
    labels = {**(metadata.get("labels") or {}), ATTEMPT_LABEL: str(attempt)}
    annotations = {**(metadata.get("annotations") or {}), DISRUPTIONS_ANNOTATION: str(disruptions)}
    return {**manifest, "metadata": {**metadata, "name": name, "labels": labels, "annotations": annotations}}


def attempt_of(pod: Json, try_number: int | None = None) -> tuple[int, int]:
    """Return what `numbered` wrote: the attempt, and how many disruptions came before it.

    With a `try_number`, a pod that this try has adopted from an earlier one is its first.
    """
    labels, annotations = pod["metadata"].get("labels") or {}, pod["metadata"].get("annotations") or {}
    if try_number is not None and labels.get("try_number") != str(try_number):
        return 1, 0
    attempt, disruptions = labels.get(ATTEMPT_LABEL, "1"), annotations.get(DISRUPTIONS_ANNOTATION, "0")
    return (int(attempt) if attempt.isdecimal() else 1, int(disruptions) if disruptions.isdecimal() else 0)


def avoiding(manifest: Json, node: str) -> Json:
    """Return `manifest` with the preference for any other node than the one called `node`."""
    if not node:
        return manifest
    field = {"key": "metadata.name", "operator": "NotIn", "values": [node]}
    preference = {"weight": AVOID_WEIGHT, "preference": {"matchFields": [field]}}
    affinity = manifest["spec"].get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    given = node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    preferred = given if preference in given else [*given, preference]
    node_affinity = {**node_affinity, "preferredDuringSchedulingIgnoredDuringExecution": preferred}
    spec = {**manifest["spec"], "affinity": {**affinity, "nodeAffinity": node_affinity}}
    return {**manifest, "spec": spec}


def memory_of(manifest: Json, base: str) -> str:
    """Return the memory limit of the base container, or else its request; empty when it has neither."""
    resources = _base(manifest, base).get("resources") or {}
    return next((str(found["memory"]) for found in _amounts(resources) if "memory" in found), "")


def with_more_memory(manifest: Json, base: str, growth: MemoryGrowth) -> Json | None:
    """Return `manifest` with more memory for the base container; None when it has none to multiply, or enough."""
    resources = copy.deepcopy(_base(manifest, base).get("resources") or {})
    grown = False
    for amounts in _amounts(resources):
        now = parse_quantity(amounts.get("memory"))
        if now is not None and (more := _grown(now, growth)) is not None:
            amounts["memory"], grown = more, True
    if not grown:
        return None
    containers = [
        {**container, "resources": resources} if container["name"] == base else container
        for container in manifest["spec"]["containers"]
    ]
    return {**manifest, "spec": {**manifest["spec"], "containers": containers}}


def _grown(now: Fraction, growth: MemoryGrowth) -> str | None:
    """Return the next quantity after `now`, None when there is no larger one."""
    wanted, limit = now * Fraction(growth.memory), parse_quantity(growth.max)
    if limit is not None and wanted >= limit:
        return growth.max if limit > now else None
    return format_bytes(wanted)


def _amounts(resources: Json) -> list[Json]:
    """Return the limits, and then the requests."""
    return [resources[kind] for kind in ("limits", "requests") if resources.get(kind)]


def _base(manifest: Json, base: str) -> Json:
    return next((found for found in manifest["spec"]["containers"] if found["name"] == base), {})


def _containers(spec: Json) -> Iterable[dict[str, Any]]:
    yield from spec.get("initContainers") or ()
    yield from spec["containers"]
