"""A client of the API in the same process: all that the kubelet and the controllers know of the API server.

It offers what the API offers, by the same rules: admission, validation, defaults, preconditions, selectors. It skips
what belongs to HTTP: sockets, authentication, counters, and the faults that tests inject.
Calls are synchronous, so a read and a write without an `await` between are atomic. Objects are shared: never change
one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kpo_async.localcluster.api import deletion, resources
from kpo_async.localcluster.api.deletion import DeleteOptions
from kpo_async.localcluster.api.errors import NotFound, StatusError
from kpo_async.localcluster.api.registry import ObjectRef, Registry
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.api.watching import Watch, WatchEvent, WatchOptions
from kpo_async.localcluster.store.objects import Object, WatchEventType

__all__ = ["NAMESPACED", "InProcessClient", "NotFound", "StatusError", "WatchEvent", "WatchEventType"]

NAMESPACED = tuple(found.name for found in resources.RESOURCES if found.namespaced)
"""The resources whose objects belong to a namespace, by name."""


class InProcessClient:
    """Reads and writes objects by the name of their resource, such as `pods`; a cluster-scoped one has no namespace."""

    def __init__(self, registry: Registry, reviews: Reviews) -> None:
        self._registry = registry
        self._store = registry.store
        self._reviews = reviews

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object. Raises NotFound."""
        return self._registry.get(_ref(resource, namespace, name))

    def list(self, resource: str, namespace: str | None = None) -> list[Object]:
        """Return the objects of a namespace, or of the cluster, in no particular order."""
        return self._store.list(resource, namespace)

    async def watch(self, resource: str, field_selector: str = "") -> AsyncGenerator[WatchEvent, None]:
        """Yield an ADDED event for each object there is, and then each change. Does not end by itself."""
        found = resources.BY_NAME[resource]
        watch = Watch(self._store, found, None, WatchOptions.of(found, field_selector))
        async for events in watch.batches():
            for event in events:
                yield event

    def create(self, resource: str, obj: Object) -> Object:
        """Create an object and return it as stored. Raises StatusError."""
        return self._registry.create(_ref(resource, obj["metadata"].get("namespace", ""), ""), obj)

    def update(self, resource: str, obj: Object) -> Object:
        """Replace an object, except its status, and return it as stored. Raises StatusError."""
        return self._registry.update(_ref_of(resource, obj), obj)

    def update_status(self, resource: str, obj: Object) -> Object:
        """Replace an object's status and return the object as stored. Raises StatusError."""
        return self._registry.update(_ref_of(resource, obj, "status"), obj)

    def delete(
        self, resource: str, namespace: str, name: str, *, grace_seconds: int | None = None, uid: str | None = None
    ) -> None:
        """Delete an object, or begin to. `uid` is a precondition. Raises StatusError."""
        deletion.delete(self._registry, _ref(resource, namespace, name), DeleteOptions(grace_seconds, uid))

    def bind(self, pod: Object, node: str) -> None:
        """Assign a pod to a node. Raises StatusError."""
        deletion.bind(self._registry, _ref_of("pods", pod, "binding"), {"target": {"name": node}})

    def create_token(self, namespace: str, account: str, seconds: int) -> str:
        """Return a token of a service account that expires after so many seconds. Raises NotFound."""
        request = {"spec": {"expirationSeconds": seconds}}
        review = self._reviews.token(_ref("serviceaccounts", namespace, account, "token"), request)
        return str(review["status"]["token"])

    def finalize_namespace(self, name: str) -> None:
        """Remove a namespace and what is left in it. Raises NotFound."""
        deletion.finalize_namespace(self._registry, name)


def _ref(resource: str, namespace: str, name: str, subresource: str = "") -> ObjectRef:
    return ObjectRef(resources.BY_NAME[resource], namespace, name, subresource)


def _ref_of(resource: str, obj: Object, subresource: str = "") -> ObjectRef:
    metadata = obj["metadata"]
    return _ref(resource, metadata.get("namespace", ""), metadata["name"], subresource)
