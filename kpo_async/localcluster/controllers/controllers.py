"""The cluster's own controllers: pods find their node, namespaces their contents and their end, quotas their counts.

Each reacts to the store's changes; none polls.
"""

from __future__ import annotations

import asyncio

from kpo_async.localcluster.api import admission, deletion, resources
from kpo_async.localcluster.api.deletion import DeleteOptions
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.controllers import scheduler
from kpo_async.localcluster.store.store import Change, EventType, NotFound, Object

EVENTS_LIMIT = 4_000
"""Events kept; a real cluster drops them after an hour, which a busy test does not want to wait for."""
BUILT_IN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class Controllers:
    """Keeps the cluster's own objects true."""

    def __init__(self, registry: Registry, ca_certificate: str = "") -> None:
        self.registry = registry
        self.store = registry.store
        self.ca_certificate = ca_certificate

    def start(self) -> None:
        """The objects that a new cluster has."""
        for name in BUILT_IN_NAMESPACES:
            body = {"metadata": {"name": name}}
            self.registry.create(Target(resources.BY_NAME["namespaces"]), body)
            self._furnish(name)

    async def run(self) -> None:
        """Work until cancelled."""
        subscriptions = {
            "namespaces": self.store.subscribe("namespaces"),
            "pods": self.store.subscribe("pods"),
            "resourcequotas": self.store.subscribe("resourcequotas"),
            "serviceaccounts": self.store.subscribe("serviceaccounts"),
            "events": self.store.subscribe("events"),
        }
        reactions = {
            "namespaces": self._namespace,
            "pods": self._pod,
            "resourcequotas": self._quota,
            "serviceaccounts": self._account,
            "events": self._event,
        }

        async def follow(name: str) -> None:
            async for change in subscriptions[name]:
                reactions[name](change)

        tasks = [asyncio.create_task(follow(name), name=f"controller of {name}") for name in subscriptions]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- namespaces

    def _namespace(self, change: Change) -> None:
        name = change.object["metadata"]["name"]
        if change.type is EventType.ADDED:
            self._furnish(name)
        elif change.type is EventType.MODIFIED and "deletionTimestamp" in change.object["metadata"]:
            for resource in resources.RESOURCES:
                if resource.namespaced:
                    self._empty(resource, name)
            self._finish_namespace(name)

    def _furnish(self, name: str) -> None:
        """The default service account and the cluster's certificate, which every namespace has."""
        metadata = {"name": "default", "namespace": name}
        account: Object = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": metadata}
        for resource, obj in (("serviceaccounts", account), ("configmaps", self._root_certificate(name))):
            if not self._exists(resource, name, obj["metadata"]["name"]):
                self.store.create(resource, obj)

    def _root_certificate(self, namespace: str) -> Object:
        return {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
            "data": {"ca.crt": self.ca_certificate},
        }

    def _exists(self, resource: str, namespace: str, name: str) -> bool:
        try:
            self.store.get(resource, namespace, name)
        except NotFound:
            return False
        return True

    def _empty(self, resource: resources.Resource, namespace: str) -> None:
        for obj in self.store.list(resource.name, namespace):
            target = Target(resource, namespace, obj["metadata"]["name"])
            deletion.delete(self.registry, target, DeleteOptions())

    def _finish_namespace(self, name: str) -> None:
        """Remove a dying namespace once its last pod has gone."""
        if not self._exists("namespaces", "", name):
            return
        dying = "deletionTimestamp" in self.store.get("namespaces", "", name)["metadata"]
        if dying and not self.store.list("pods", name):
            for resource in resources.RESOURCES:
                if resource.namespaced:
                    for obj in self.store.list(resource.name, name):
                        self.store.remove(resource.name, name, obj["metadata"]["name"])
            self.store.remove("namespaces", "", name)

    def _account(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.type is not EventType.DELETED or metadata["name"] != "default":
            return
        if self._exists("namespaces", "", metadata["namespace"]):
            namespace = self.store.get("namespaces", "", metadata["namespace"])
            if "deletionTimestamp" not in namespace["metadata"]:
                self._furnish(metadata["namespace"])

    # -- pods

    def _pod(self, change: Change) -> None:
        metadata = change.object["metadata"]
        if change.type is EventType.DELETED:
            self._finish_namespace(metadata["namespace"])
        else:
            try:
                pod = self.store.get("pods", metadata["namespace"], metadata["name"])
            except NotFound:
                return
            scheduler.schedule(self.registry, pod)
        for quota in self.store.list("resourcequotas", metadata["namespace"]):
            self._count(quota)

    def _quota(self, change: Change) -> None:
        if change.type is not EventType.DELETED:
            self._count(change.object)

    def _count(self, quota: Object) -> None:
        metadata = quota["metadata"]
        hard: dict[str, str] = quota.get("spec", {}).get("hard", {})
        pods = str(admission.counted_pods(self.store, metadata["namespace"]))
        used = {key: pods for key in hard if key in ("pods", "count/pods")}
        try:
            current = self.store.get("resourcequotas", metadata["namespace"], metadata["name"])
        except NotFound:
            return
        self.store.update("resourcequotas", {**current, "status": {"hard": hard, "used": used}})

    # -- events

    def _event(self, change: Change) -> None:
        if change.type is not EventType.ADDED:
            return
        if self.store.count("events") > EVENTS_LIMIT:
            for event in self.store.list("events")[: EVENTS_LIMIT // 10]:
                self.store.remove("events", event["metadata"]["namespace"], event["metadata"]["name"])
