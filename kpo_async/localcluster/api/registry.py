"""Creates, changes and deletes objects by the rules of the API, synchronously on the store.

It knows nothing of HTTP, identities or watches: a body that was decoded goes in, the stored object comes out, and
`errors.Refusal` says why not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kpo_async.localcluster.api import admission, errors, validate
from kpo_async.localcluster.api.pod_defaults import generated_suffix
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.api.strategies import strategy
from kpo_async.localcluster.store import store
from kpo_async.localcluster.store.store import Object, Store

NAME_LIMIT = 63
SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")


@dataclass(frozen=True)
class Target:
    """Where an object is, or is to be."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Registry:
    """The rules between the API and the store."""

    def __init__(self, objects: Store) -> None:
        self.store = objects

    def get(self, target: Target) -> Object:
        """The object. Raises Refusal (404)."""
        resource = target.resource
        try:
            return self.store.get(resource.name, target.namespace, target.name)
        except store.NotFound:
            raise errors.not_found(resource.name, target.name, resource.group) from None

    def create(self, target: Target, body: Object, *, dry_run: bool = False) -> Object:
        """A new object with defaults, after admission and validation. Raises Refusal (400, 403, 404, 409, 422)."""
        resource = target.resource
        rules = strategy(resource.name)
        obj = rules.fill(self._identified(target, body))
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
        if resource.namespaced:
            admission.check_namespace(self.store, resource, obj)
        if resource.name == "pods":
            obj = admission.admit_pod(self.store, obj)
        causes = [
            *validate.metadata(obj["metadata"], subdomain=rules.subdomain_names),
            *rules.validate(obj),
        ]
        name = obj["metadata"].get("name", "")
        if causes:
            raise errors.invalid(resource.kind, name, causes, resource.group)
        if resource.name == "pods":
            admission.check_quota(self.store, obj)
        if (existing := self._find(resource, obj)) is not None:
            raise errors.already_exists(
                resource.name, name, resource.group, dying="deletionTimestamp" in existing["metadata"]
            )
        if dry_run:
            return self._pretended(obj)
        return self.store.create(resource.name, obj)

    def _identified(self, target: Target, body: Object) -> Object:
        """The body with a namespace and a name of its own, without what only the server may set."""
        metadata = {key: value for key, value in body.get("metadata", {}).items() if key not in SERVER_SET}
        metadata.pop("managedFields", None)
        metadata.pop("resourceVersion", None)
        self._check_namespace_matches(target, metadata)
        if target.resource.namespaced:
            metadata["namespace"] = target.namespace
        if prefix := metadata.get("generateName"):
            metadata.setdefault("name", prefix[: NAME_LIMIT - 5] + generated_suffix())
        if strategy(target.resource.name).counts_generations:
            metadata["generation"] = 1
        ordered = {key: metadata[key] for key in ("name", "generateName", "namespace") if key in metadata}
        return {**body, "metadata": {**ordered, **metadata}}

    @staticmethod
    def _check_namespace_matches(target: Target, metadata: Object) -> None:
        if metadata.get("namespace", target.namespace) != target.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _find(self, resource: Resource, obj: Object) -> Object | None:
        """What is stored under the name of a new object."""
        metadata = obj["metadata"]
        try:
            return self.store.get(resource.name, metadata.get("namespace", ""), metadata["name"])
        except store.NotFound:
            return None

    def _pretended(self, obj: Object) -> Object:
        """What a dry run answers: as if stored, at no version."""
        scratch = Store(clock=self.store.clock)
        stored = scratch.create("dry-run", obj)
        metadata = {key: value for key, value in stored["metadata"].items() if key != "resourceVersion"}
        return {**stored, "metadata": metadata}

    def update(self, target: Target, body: Object, *, dry_run: bool = False) -> Object:
        """An object replaced by what the client sent. Raises Refusal (400, 404, 409, 422)."""
        return self.modify(target, lambda current: body, dry_run=dry_run)

    def modify(self, target: Target, change: Callable[[Object], Object], *, dry_run: bool = False) -> Object:
        """An object replaced by `change` of what it is now. Raises Refusal (400, 404, 409, 422)."""
        resource = target.resource
        current = self.get(target)
        body = change(current)
        metadata = body.get("metadata", {})
        if (name := metadata.get("name", "")) != target.name:
            message = f"the name of the object ({name}) does not match the name on the URL ({target.name})"
            raise errors.bad_request(message)
        self._check_namespace_matches(target, metadata)
        version = metadata.get("resourceVersion")
        if version is not None and version != current["metadata"]["resourceVersion"]:
            raise errors.modified(resource.name, target.name, resource.group)
        new = self._carried_over(target, body, current)
        self._validate_update(target, new, current)
        if dry_run:
            return new
        stored = self.store.update(resource.name, new)
        return self._collect(resource, stored)

    def _carried_over(self, target: Target, body: Object, current: Object) -> Object:
        """The new object with everything that this request may not touch taken from the current one."""
        rules = strategy(target.resource.name)
        metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        old = current["metadata"]
        kept = {key: old[key] for key in SERVER_SET if key in old and key not in metadata}
        metadata = {**metadata, **kept, "resourceVersion": old["resourceVersion"]}
        if target.resource.namespaced:
            metadata["namespace"] = old["namespace"]
        if target.subresource == "status":
            return {**current, "metadata": metadata, "status": body.get("status", {})}
        filled = rules.fill({**body, "metadata": metadata})
        new = {"kind": current["kind"], "apiVersion": current["apiVersion"], **filled, "metadata": metadata}
        if rules.has_status:
            new["status"] = current.get("status", {})
        if rules.counts_generations and new.get("spec") != current.get("spec"):
            new["metadata"] = {**metadata, "generation": old.get("generation", 1) + 1}
        return new

    def _validate_update(self, target: Target, new: Object, current: Object) -> None:
        resource = target.resource
        rules = strategy(resource.name)
        changed = {key: value for key, value in new["metadata"].items() if key != "generation"}
        causes = [
            *validate.metadata(changed, subdomain=rules.subdomain_names),
            *validate.immutable_metadata(new["metadata"], current["metadata"]),
        ]
        if target.subresource != "status":
            causes += [*rules.validate(new), *rules.validate_update(new, current)]
        if causes:
            raise errors.invalid(resource.kind, target.name, causes, resource.group)

    def _collect(self, resource: Resource, stored: Object) -> Object:
        """Remove an object that was only waiting for its finalizers."""
        metadata = stored["metadata"]
        waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds", 0) > 0
        if "deletionTimestamp" in metadata and not waits and resource.name != "namespaces":
            return self.store.remove(resource.name, metadata.get("namespace", ""), metadata["name"])
        return stored
