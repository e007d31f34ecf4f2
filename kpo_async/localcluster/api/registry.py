"""Creates, reads and changes objects by the rules of the API, synchronously on the store.

It handles neither HTTP nor users nor watches: a decoded body goes in, the stored object comes out, and
`errors.StatusError` says why a request is refused. `deletion` has the rules of deleting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kpo_async.localcluster.api import admission, errors, validate
from kpo_async.localcluster.api.pod_defaults import generated_suffix
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.api.strategies import strategy
from kpo_async.localcluster.store.objects import Object, is_deleting
from kpo_async.localcluster.store.store import ObjectNotFound, Store

NAME_LIMIT = 63
EVENTS_LIMIT = 4_000
"""Events kept. A real server keeps each for an hour (`--event-ttl`), which a busy test would have to wait for."""
SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
"""Fields of metadata that only the server sets."""


@dataclass(frozen=True)
class ObjectRef:
    """The place of an object in the API; without a name, of a collection."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class Registry:
    """The rules between the API and the store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, ref: ObjectRef) -> Object:
        """Return an object. Raises NotFound."""
        resource = ref.resource
        try:
            return self.store.get(resource.name, ref.namespace, ref.name)
        except ObjectNotFound:
            raise errors.NotFound(resource.name, ref.name, resource.group) from None

    def create(self, ref: ObjectRef, body: Object, *, dry_run: bool = False) -> Object:
        """Create an object: defaults, admission, validation. Raises StatusError (400, 403, 404, 409, 422)."""
        resource = ref.resource
        rules = strategy(resource.name)
        obj = rules.fill(self._with_identity(ref, body))
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
        if (existing := self._existing(resource, obj)) is not None:
            raise errors.already_exists(resource.name, name, resource.group, deleting=is_deleting(existing))
        if dry_run:
            return self._as_if_stored(obj)
        created = self.store.create(resource.name, obj)
        if resource.name == "events":
            self._expire_events()
        return created

    def _with_identity(self, ref: ObjectRef, body: Object) -> Object:
        """The body with its namespace and name, without the fields that only the server sets."""
        metadata = {key: value for key, value in body.get("metadata", {}).items() if key not in SERVER_SET}
        metadata.pop("managedFields", None)
        metadata.pop("resourceVersion", None)
        self._check_namespace_matches(ref, metadata)
        if ref.resource.namespaced:
            metadata["namespace"] = ref.namespace
        if prefix := metadata.get("generateName"):
            metadata.setdefault("name", prefix[: NAME_LIMIT - 5] + generated_suffix())
        if strategy(ref.resource.name).counts_generations:
            metadata["generation"] = 1
        ordered = {key: metadata[key] for key in ("name", "generateName", "namespace") if key in metadata}
        return {**body, "metadata": {**ordered, **metadata}}

    @staticmethod
    def _check_namespace_matches(ref: ObjectRef, metadata: Object) -> None:
        if metadata.get("namespace", ref.namespace) != ref.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )

    def _existing(self, resource: Resource, obj: Object) -> Object | None:
        """The object that is stored under the name of a new one."""
        metadata = obj["metadata"]
        try:
            return self.store.get(resource.name, metadata.get("namespace", ""), metadata["name"])
        except ObjectNotFound:
            return None

    def _as_if_stored(self, obj: Object) -> Object:
        """The answer to a dry run: the object with everything that storing adds, except a version."""
        scratch = Store(clock=self.store.clock)
        stored = scratch.create("dry-run", obj)
        metadata = {key: value for key, value in stored["metadata"].items() if key != "resourceVersion"}
        return {**stored, "metadata": metadata}

    def _expire_events(self) -> None:
        """Remove the oldest tenth of the events once there are too many."""
        if self.store.count("events") > EVENTS_LIMIT:
            for event in self.store.list("events")[: EVENTS_LIMIT // 10]:
                self.store.remove("events", event["metadata"]["namespace"], event["metadata"]["name"])

    def update(self, ref: ObjectRef, body: Object, *, dry_run: bool = False) -> Object:
        """Replace an object by the client's. Raises StatusError (400, 404, 409, 422)."""
        return self.modify(ref, lambda current: body, dry_run=dry_run)

    def modify(self, ref: ObjectRef, change: Callable[[Object], Object], *, dry_run: bool = False) -> Object:
        """Replace an object by what `change` makes of it. Raises StatusError (400, 404, 409, 422)."""
        resource = ref.resource
        current = self.get(ref)
        body = change(current)
        metadata = body.get("metadata", {})
        if (name := metadata.get("name", "")) != ref.name:
            message = f"the name of the object ({name}) does not match the name on the URL ({ref.name})"
            raise errors.bad_request(message)
        self._check_namespace_matches(ref, metadata)
        version = metadata.get("resourceVersion")
        if version is not None and version != current["metadata"]["resourceVersion"]:
            raise errors.modified(resource.name, ref.name, resource.group)
        new = self._merged(ref, body, current)
        self._validate_update(ref, new, current)
        if dry_run:
            return new
        stored = self.store.update(resource.name, new)
        return self._removed_if_released(resource, stored)

    def _merged(self, ref: ObjectRef, body: Object, current: Object) -> Object:
        """The new object, with everything that this request may not change taken from the current one."""
        rules = strategy(ref.resource.name)
        metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
        old = current["metadata"]
        kept = {key: old[key] for key in SERVER_SET if key in old and key not in metadata}
        metadata = {**metadata, **kept, "resourceVersion": old["resourceVersion"]}
        if ref.resource.namespaced:
            metadata["namespace"] = old["namespace"]
        if ref.subresource == "status":
            return {**current, "metadata": metadata, "status": body.get("status", {})}
        filled = rules.fill({**body, "metadata": metadata})
        new = {"kind": current["kind"], "apiVersion": current["apiVersion"], **filled, "metadata": metadata}
        if rules.has_status:
            new["status"] = current.get("status", {})
        if rules.counts_generations and new.get("spec") != current.get("spec"):
            new["metadata"] = {**metadata, "generation": old.get("generation", 1) + 1}
        return new

    def _validate_update(self, ref: ObjectRef, new: Object, current: Object) -> None:
        resource = ref.resource
        rules = strategy(resource.name)
        causes = []
        if new["metadata"] != current["metadata"]:
            causes += [
                *validate.metadata(new["metadata"], subdomain=rules.subdomain_names),
                *validate.immutable_metadata(new["metadata"], current["metadata"]),
            ]
        if ref.subresource != "status":
            causes += [*rules.validate(new), *rules.validate_update(new, current)]
        if causes:
            raise errors.invalid(resource.kind, ref.name, causes, resource.group)

    def _removed_if_released(self, resource: Resource, stored: Object) -> Object:
        """Remove an object whose deletion waited only for its finalizers."""
        metadata = stored["metadata"]
        waits = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds", 0) > 0
        if is_deleting(stored) and not waits and resource.name != "namespaces":
            return self.store.remove(resource.name, metadata.get("namespace", ""), metadata["name"])
        return stored
