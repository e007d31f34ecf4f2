"""The cluster's own controllers: a scheduler for one node, namespaces with their contents, quotas, old events.

Each reacts to the store's changes; none polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from kpo_async.localcluster import admission, deletion, resources, times
from kpo_async.localcluster.deletion import DeleteOptions
from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.pod_defaults import generated_suffix
from kpo_async.localcluster.registry import Registry, Target
from kpo_async.localcluster.selectors import Requirement
from kpo_async.localcluster.store import Change, EventType, NotFound, Object, Store

EVENTS_LIMIT = 10_000
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
            schedule(self.registry, pod)
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


def schedule(registry: Registry, pod: Object) -> None:
    """Bind a pod to the node, or say in its status why not."""
    spec, metadata = pod["spec"], pod["metadata"]
    if spec.get("nodeName") or "deletionTimestamp" in metadata or spec["schedulerName"] != "default-scheduler":
        return
    target = Target(resources.BY_NAME["pods"], metadata["namespace"], metadata["name"])
    if spec.get("schedulingGates"):
        message = "Scheduling is blocked due to non-empty scheduling gates"
        _refuse(registry.store, pod, "SchedulingGated", message)
        return
    problem = _misfit(registry.store.get("nodes", "", NODE_NAME), spec)
    if problem:
        message = (
            f"0/1 nodes are available: {problem}. no new claims to deallocate, "
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
        _refuse(registry.store, pod, "Unschedulable", message)
        return
    deletion.bind(registry, target, {"target": {"name": NODE_NAME}})
    where = f"{metadata['namespace']}/{metadata['name']}"
    record(registry.store, pod, "Normal", "Scheduled", f"Successfully assigned {where} to {NODE_NAME}", "Binding")


def _misfit(node: Object, spec: Object) -> str:
    """Why a pod cannot run on the node, in the scheduler's words; empty when it can."""
    labels = node["metadata"].get("labels", {})
    tolerated = spec.get("tolerations", [])
    for taint in node["spec"].get("taints", []):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not any(_tolerates(t, taint) for t in tolerated):
            return f"1 node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if node["spec"].get("unschedulable"):
        return "1 node(s) were unschedulable"
    wanted = spec.get("nodeSelector", {})
    affinity = spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = affinity["nodeSelectorTerms"] if affinity else [{}]
    if any(labels.get(key) != value for key, value in wanted.items()) or not any(
        _term_matches(term, labels) for term in terms
    ):
        return "1 node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect", taint["effect"]) != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return bool(toleration.get("key", taint["key"]) == taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _term_matches(term: Object, labels: dict[str, str]) -> bool:
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": ">", "Lt": "<"}
    needs: Iterable[Object] = term.get("matchExpressions", [])
    return all(
        Requirement(need["key"], operators[need["operator"]], frozenset(need.get("values", []))).matches(labels)
        for need in needs
    )


def _refuse(store: Store, pod: Object, reason: str, message: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    before: list[Object] = pod["status"].get("conditions", [])
    after = deletion.set_condition(before, condition, store.timestamp())
    if before == after:
        return
    store.update("pods", {**pod, "status": {**pod["status"], "conditions": after}})
    if reason == "Unschedulable":
        record(store, pod, "Warning", "FailedScheduling", message, "Scheduling")


def record(store: Store, pod: Object, kind: str, reason: str, message: str, action: str) -> None:
    """An event about a pod, as the scheduler writes it."""
    now = store.clock()
    metadata = pod["metadata"]
    store.create(
        "events",
        {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{metadata['name']}.{now:x}{generated_suffix()}",
                "namespace": metadata["namespace"],
            },
            "involvedObject": {
                "kind": "Pod",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "apiVersion": "v1",
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "type": kind,
            "eventTime": times.to_micros(now),
            "action": action,
            "reportingComponent": "default-scheduler",
            "reportingInstance": "default-scheduler-" + NODE_NAME,
        },
    )
