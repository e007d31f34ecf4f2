"""Deleting: preconditions, grace, finalizers, and the requests that are deletions by another name (eviction).

A deletion is a change first (`deletionTimestamp`, which clients see as MODIFIED) and a removal later: by the kubelet
for a pod that runs, by whoever takes the last finalizer away, by a controller for a namespace, at once for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.api import errors, schema
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Object, Store

_POLICIES = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True)
class DeleteOptions:
    """meta/v1 DeleteOptions, as far as they mean something here."""

    grace_seconds: int | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, body: Any, query: dict[str, str]) -> DeleteOptions:
        """From the body, or without one from the query. Raises Refusal (400, 422, 500)."""
        options: Object = schema.decode(body or {}, "DeleteOptions").object
        if options.get("kind", "DeleteOptions") != "DeleteOptions":
            kind, version = options["kind"], options.get("apiVersion", "")
            message = f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:110"'
            raise errors.Refusal(500, message, reason="")
        if not body:
            options = _from_query(query)
        policy = options.get("propagationPolicy")
        if policy is not None and policy not in _POLICIES:
            supported = ", ".join(f'"{known}"' for known in (*_POLICIES, "nil"))
            message = f'Unsupported value: "{policy}": supported values: {supported}'
            raise errors.invalid_options("DeleteOptions", "propagationPolicy", message, "FieldValueNotSupported")
        required: Object = options.get("preconditions", {})
        dry_run = options.get("dryRun", []) or ([query["dryRun"]] if "dryRun" in query else [])
        return cls(
            options.get("gracePeriodSeconds"),
            required.get("uid"),
            required.get("resourceVersion"),
            check_dry_run("DeleteOptions", dry_run),
        )


def _from_query(query: dict[str, str]) -> Object:
    options: Object = {key: query[key] for key in ("propagationPolicy",) if key in query}
    if "gracePeriodSeconds" in query:
        text = query["gracePeriodSeconds"]
        try:
            options["gracePeriodSeconds"] = int(text)
        except ValueError:
            raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    return options


def check_dry_run(kind: str, values: list[str]) -> bool:
    """Whether `dryRun` says All. Raises Refusal (422) for anything else that it says."""
    if any(value != "All" for value in values):
        shown = "[" + " ".join(f'"{value}"' for value in values) + "]"
        message = f'Unsupported value: {shown}: supported values: "All"'
        raise errors.invalid_options(kind, "dryRun", message, "FieldValueNotSupported")
    return bool(values)


def delete(registry: Registry, target: Target, options: DeleteOptions) -> Object:
    """The deleted or dying object, as the server answers. Raises Refusal (404, 409)."""
    current = registry.get(target)
    _check_preconditions(target, current, options)
    metadata = current["metadata"]
    grace = _grace(target, current, options)
    if grace is None:
        return current
    waits = grace > 0 or metadata.get("finalizers") or target.resource.name == "namespaces"
    if not waits and target.resource.name != "pods":
        if not options.dry_run:
            registry.store.remove(target.resource.name, target.namespace, target.name)
        return current
    dying = _marked(registry, target, current, grace)
    if options.dry_run:
        return dying
    dying = registry.store.update(target.resource.name, dying)
    if not waits:
        registry.store.remove(target.resource.name, target.namespace, target.name)
    return dying


def _check_preconditions(target: Target, current: Object, options: DeleteOptions) -> None:
    uid, version = current["metadata"]["uid"], current["metadata"]["resourceVersion"]
    if options.uid is not None and options.uid != uid:
        raise errors.conflict(
            target.resource.kind,
            target.name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated",
        )
    if options.version is not None and options.version != version:
        raise errors.conflict(
            target.resource.kind,
            target.name,
            f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion in "
            f"record ({version}). The object might have been modified",
        )


def _grace(target: Target, current: Object, options: DeleteOptions) -> int | None:
    """Seconds from now until the object may be killed; None when the deletion under way stays as it is."""
    metadata = current["metadata"]
    if target.resource.name != "pods":
        return None if "deletionTimestamp" in metadata and target.resource.name == "namespaces" else 0
    wanted = options.grace_seconds
    if "deletionTimestamp" in metadata:
        granted: int = metadata.get("deletionGracePeriodSeconds", 0)
        return max(wanted, 0) if wanted is not None and 0 <= wanted < granted else None
    if not current["spec"].get("nodeName") or current["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    if wanted is None:
        wanted = current["spec"].get("terminationGracePeriodSeconds", 30)
    return wanted if wanted >= 0 else 1


def _marked(registry: Registry, target: Target, current: Object, grace: int) -> Object:
    """The object with its deletion written on it."""
    metadata = current["metadata"]
    since = registry.store.clock()
    if "deletionTimestamp" in metadata:
        # A shorter grace counts from the first request.
        granted = metadata.get("deletionGracePeriodSeconds", 0)
        since = times.parse(metadata["deletionTimestamp"]) - granted * times.SECOND
    marked = {**metadata, "deletionTimestamp": times.to_seconds(since + grace * times.SECOND)}
    if target.resource.name == "pods":
        marked["deletionGracePeriodSeconds"] = grace
        if "deletionTimestamp" not in metadata:
            marked["generation"] = metadata.get("generation", 1) + 1
    if target.resource.name == "namespaces":
        return {**current, "metadata": marked, "status": {**current.get("status", {}), "phase": "Terminating"}}
    return {**current, "metadata": marked}


def finish(store: Store, namespace: str, name: str) -> None:
    """What a kubelet asks for once a dying pod's containers have ended: its deletion, with no grace left.

    Watches tell it as MODIFIED and DELETED; finalizers still hold the pod.
    """
    pod = store.get("pods", namespace, name)
    metadata = {**pod["metadata"], "deletionTimestamp": store.timestamp(), "deletionGracePeriodSeconds": 0}
    store.update("pods", {**pod, "metadata": metadata})
    if not metadata.get("finalizers"):
        store.remove("pods", namespace, name)


def evict(registry: Registry, target: Target, body: Object) -> Object:
    """POST pods/NAME/eviction. There are no disruption budgets here, so nothing is ever held back."""
    options: Object = body.get("deleteOptions", {})
    parsed = DeleteOptions.parse({"kind": "DeleteOptions", **options}, {})
    pod = registry.get(target)
    _check_preconditions(target, pod, parsed)
    if parsed.dry_run:
        return errors.success(201)
    reason = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": registry.store.timestamp(),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    others = [found for found in pod["status"].get("conditions", []) if found["type"] != reason["type"]]
    if "deletionTimestamp" not in pod["metadata"]:
        registry.store.update("pods", {**pod, "status": {**pod["status"], "conditions": [*others, reason]}})
    delete(registry, target, parsed)
    return errors.success(201)


def bind(registry: Registry, target: Target, body: Object) -> Object:
    """POST pods/NAME/binding: what a scheduler does. Raises Refusal (404, 409)."""
    pod = registry.get(target)
    if body.get("metadata", {}).get("name", target.name) != target.name:
        raise errors.bad_request("name in URL does not match name in Binding object")
    node = body.get("target", {}).get("name", "")
    if taken := pod["spec"].get("nodeName"):
        message = f'pod {target.name} is already assigned to node "{taken}"'
        raise errors.conflict("pods/binding", target.name, message)
    if gates := pod["spec"].get("schedulingGates"):
        names = ", ".join(gate["name"] for gate in gates)
        raise errors.conflict(
            "pods/binding", target.name, f"pod {target.name} has non-empty .spec.schedulingGates {names}"
        )
    conditions = set_condition(
        pod["status"].get("conditions", []), {"type": "PodScheduled", "status": "True"}, registry.store.timestamp()
    )
    bound = {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {**pod["status"], "conditions": conditions}}
    registry.store.update("pods", bound)
    return errors.success(201)


def set_condition(conditions: list[Object], condition: Object, now: str) -> list[Object]:
    """The conditions with this one in place of an older one of its type."""
    old = next((found for found in conditions if found["type"] == condition["type"]), None)
    since = old["lastTransitionTime"] if old is not None and old["status"] == condition["status"] else now
    new = {**condition, "lastProbeTime": None, "lastTransitionTime": since}
    return [*(found for found in conditions if found["type"] != condition["type"]), new]
