"""The cluster's own controllers: namespaces get their contents and their end, quotas their counts.

Each reacts to events of a watch; none polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kpo_async.localcluster.client import NAMESPACED, InProcessClient, NotFound, WatchEvent, WatchEventType
from kpo_async.localcluster.store.objects import Object, has_ended, is_deleting

BUILT_IN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


class Controllers:
    """Keeps the cluster's own objects up to date."""

    def __init__(self, client: InProcessClient, ca_certificate: str = "") -> None:
        """`ca_certificate` is in PEM; every namespace has it in a config map."""
        self._client = client
        self._ca_certificate = ca_certificate

    def create_namespaces(self) -> None:
        """Create the namespaces of a new cluster, with their contents."""
        for name in BUILT_IN_NAMESPACES:
            self._client.create("namespaces", {"metadata": {"name": name}})
            self._fill_namespace(name)

    async def run(self) -> None:
        """Work until cancelled."""
        controllers = {
            "namespaces": self._reconcile_namespace,
            "pods": self._reconcile_pod,
            "resourcequotas": self._reconcile_quota,
            "serviceaccounts": self._reconcile_service_account,
        }
        tasks = [
            asyncio.create_task(self._control(resource, reconcile), name=f"controller of {resource}")
            for resource, reconcile in controllers.items()
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _control(self, resource: str, reconcile: Callable[[WatchEvent], None]) -> None:
        async for event in self._client.watch(resource):
            reconcile(event)

    def _reconcile_namespace(self, event: WatchEvent) -> None:
        name = event.object["metadata"]["name"]
        namespace = self._find("namespaces", "", name)
        if namespace is None:
            return
        if is_deleting(namespace):
            self._empty_namespace(name)
            self._finalize_namespace(name)
        else:
            self._fill_namespace(name)

    def _fill_namespace(self, name: str) -> None:
        """Create the default service account and the cluster's certificate, unless the namespace has them."""
        metadata = {"name": "default", "namespace": name}
        for resource, obj in (
            ("serviceaccounts", {"metadata": metadata}),
            ("configmaps", self._root_certificate(name)),
        ):
            if self._find(resource, name, obj["metadata"]["name"]) is None:
                self._client.create(resource, obj)

    def _root_certificate(self, namespace: str) -> Object:
        metadata = {"name": "kube-root-ca.crt", "namespace": namespace}
        return {"metadata": metadata, "data": {"ca.crt": self._ca_certificate}}

    def _find(self, resource: str, namespace: str, name: str) -> Object | None:
        try:
            return self._client.get(resource, namespace, name)
        except NotFound:
            return None

    def _empty_namespace(self, name: str) -> None:
        for resource in NAMESPACED:
            for obj in self._client.list(resource, name):
                self._client.delete(resource, name, obj["metadata"]["name"])

    def _finalize_namespace(self, name: str) -> None:
        """Remove a namespace that is being deleted, once its last pod is gone."""
        namespace = self._find("namespaces", "", name)
        if namespace is not None and is_deleting(namespace) and not self._client.list("pods", name):
            self._client.finalize_namespace(name)

    def _reconcile_service_account(self, event: WatchEvent) -> None:
        """Create the default service account again when it has been deleted."""
        metadata = event.object["metadata"]
        if event.type is not WatchEventType.DELETED or metadata["name"] != "default":
            return
        namespace = self._find("namespaces", "", metadata["namespace"])
        if namespace is not None and not is_deleting(namespace):
            self._fill_namespace(metadata["namespace"])

    def _reconcile_pod(self, event: WatchEvent) -> None:
        namespace = event.object["metadata"]["namespace"]
        if event.type is WatchEventType.DELETED:
            self._finalize_namespace(namespace)
        for quota in self._client.list("resourcequotas", namespace):
            self._count_pods(quota)

    def _reconcile_quota(self, event: WatchEvent) -> None:
        if event.type is not WatchEventType.DELETED:
            self._count_pods(event.object)

    def _count_pods(self, quota: Object) -> None:
        metadata = quota["metadata"]
        hard: dict[str, str] = quota.get("spec", {}).get("hard", {})
        pods = sum(not has_ended(pod) for pod in self._client.list("pods", metadata["namespace"]))
        used = {key: str(pods) for key in hard if key in ("pods", "count/pods")}
        current = self._find("resourcequotas", metadata["namespace"], metadata["name"])
        if current is not None:
            self._client.update_status("resourcequotas", {**current, "status": {"hard": hard, "used": used}})
