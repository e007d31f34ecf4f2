"""Deleting: preconditions, grace and finalizers, and the requests that end or place a pod (eviction, binding).

A deletion is a change first (`deletionTimestamp`, which watches show as MODIFIED) and a removal later. A running pod is
removed when its kubelet deletes it with no grace left, an object with finalizers when the last finalizer is removed, a
namespace by its controller; every other object at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.api import errors, resources, schema
from kpo_async.localcluster.api.registry import ObjectRef, Registry
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object, has_ended, is_deleting, with_condition

_POLICIES = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True)
class DeleteOptions:
    """meta/v1 DeleteOptions, as far as the server implements them."""

    grace_seconds: int | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, body: Any, query: dict[str, str]) -> DeleteOptions:
        """Read the options from the body, or without a body from the query. Raises StatusError (400, 422, 500)."""
        options: Object = schema.decode(body or {}, "DeleteOptions").object
        if options.get("kind", "DeleteOptions") != "DeleteOptions":
            kind, version = options["kind"], options.get("apiVersion", "")
            message = f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:110"'
            raise errors.StatusError(500, message, reason="")
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
    """Whether `dryRun` is All. Raises StatusError (422) for any other value."""
    if any(value != "All" for value in values):
        shown = "[" + " ".join(f'"{value}"' for value in values) + "]"
        message = f'Unsupported value: {shown}: supported values: "All"'
        raise errors.invalid_options(kind, "dryRun", message, "FieldValueNotSupported")
    return bool(values)


def delete(registry: Registry, ref: ObjectRef, options: DeleteOptions) -> Object:
    """Delete an object, or begin to; return it as the server does. Raises StatusError (404, 409)."""
    current = registry.get(ref)
    _check_preconditions(ref, current, options)
    grace = _grace(ref, current, options)
    if grace is None:
        return current
    waits = grace > 0 or current["metadata"].get("finalizers") or ref.resource.name == "namespaces"
    if not waits and ref.resource.name != "pods":
        if not options.dry_run:
            registry.store.remove(ref.resource.name, ref.namespace, ref.name)
        return current
    deleting = _marked(registry, ref, current, grace)
    if options.dry_run:
        return deleting
    deleting = registry.store.update(ref.resource.name, deleting)
    if not waits:
        registry.store.remove(ref.resource.name, ref.namespace, ref.name)
    return deleting


def _check_preconditions(ref: ObjectRef, current: Object, options: DeleteOptions) -> None:
    uid, version = current["metadata"]["uid"], current["metadata"]["resourceVersion"]
    if options.uid is not None and options.uid != uid:
        raise errors.conflict(
            ref.resource.kind,
            ref.name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated",
        )
    if options.version is not None and options.version != version:
        raise errors.conflict(
            ref.resource.kind,
            ref.name,
            f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion in "
            f"record ({version}). The object might have been modified",
        )


def _grace(ref: ObjectRef, current: Object, options: DeleteOptions) -> int | None:
    """Seconds until the object may be removed; None when a deletion in progress stays as it is."""
    metadata = current["metadata"]
    if ref.resource.name != "pods":
        return None if is_deleting(current) and ref.resource.name == "namespaces" else 0
    wanted = options.grace_seconds
    if is_deleting(current):
        granted: int = metadata.get("deletionGracePeriodSeconds", 0)
        return max(wanted, 0) if wanted is not None and 0 <= wanted < granted else None
    if not current["spec"].get("nodeName") or has_ended(current):
        return 0
    if wanted is None:
        wanted = current["spec"].get("terminationGracePeriodSeconds", 30)
    return wanted if wanted >= 0 else 1


def _marked(registry: Registry, ref: ObjectRef, current: Object, grace: int) -> Object:
    """The object with the time of its deletion."""
    metadata = current["metadata"]
    since = registry.store.clock()
    if is_deleting(current):
        # A shorter grace counts from the first request.
        granted = metadata.get("deletionGracePeriodSeconds", 0)
        since = times.parse(metadata["deletionTimestamp"]) - granted * times.SECOND
    marked = {**metadata, "deletionTimestamp": times.to_seconds(since + grace * times.SECOND)}
    if ref.resource.name == "pods":
        marked["deletionGracePeriodSeconds"] = grace
        if not is_deleting(current):
            marked["generation"] = metadata.get("generation", 1) + 1
    if ref.resource.name == "namespaces":
        return {**current, "metadata": marked, "status": {**current.get("status", {}), "phase": "Terminating"}}
    return {**current, "metadata": marked}


def finalize_namespace(registry: Registry, name: str) -> None:
    """Remove a namespace and what is left in it. Unlike a real server, it does not wait for finalizers.

    Raises NotFound.
    """
    registry.get(ObjectRef(resources.BY_NAME["namespaces"], name=name))
    for resource in filter(lambda found: found.namespaced, resources.RESOURCES):
        for obj in registry.store.list(resource.name, name):
            registry.store.remove(resource.name, name, obj["metadata"]["name"])
    registry.store.remove("namespaces", "", name)


def evict(registry: Registry, ref: ObjectRef, body: Object) -> Object:
    """POST pods/NAME/eviction. There are no disruption budgets, so no eviction is refused."""
    options: Object = body.get("deleteOptions", {})
    parsed = DeleteOptions.parse({"kind": "DeleteOptions", **options}, {})
    pod = registry.get(ref)
    _check_preconditions(ref, pod, parsed)
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
    if not is_deleting(pod):
        registry.store.update("pods", {**pod, "status": {**pod["status"], "conditions": [*others, reason]}})
    delete(registry, ref, parsed)
    return errors.success(201)


def bind(registry: Registry, ref: ObjectRef, body: Object) -> Object:
    """POST pods/NAME/binding: assign a pod to a node, as a scheduler does. Raises StatusError (404, 409)."""
    pod = registry.get(ref)
    if body.get("metadata", {}).get("name", ref.name) != ref.name:
        raise errors.bad_request("name in URL does not match name in Binding object")
    node = body.get("target", {}).get("name", "")
    if assigned := pod["spec"].get("nodeName"):
        message = f'pod {ref.name} is already assigned to node "{assigned}"'
        raise errors.conflict("pods/binding", ref.name, message)
    if gates := pod["spec"].get("schedulingGates"):
        names = ", ".join(gate["name"] for gate in gates)
        raise errors.conflict("pods/binding", ref.name, f"pod {ref.name} has non-empty .spec.schedulingGates {names}")
    scheduled = {"type": "PodScheduled", "status": "True"}
    conditions = with_condition(pod["status"].get("conditions", []), scheduled, registry.store.timestamp())
    bound = {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": {**pod["status"], "conditions": conditions}}
    registry.store.update("pods", bound)
    return errors.success(201)
