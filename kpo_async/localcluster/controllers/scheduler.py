"""The scheduler of a cluster with one node: binds a pod to it, or says in the pod's status why not."""

from __future__ import annotations

from collections.abc import Iterable

from kpo_async.localcluster.api import deletion, resources
from kpo_async.localcluster.api.pod_defaults import generated_suffix
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.api.selectors import Requirement
from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Object, Store


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
