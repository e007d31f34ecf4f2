"""The scheduler of a cluster with one node: binds each pod to it, or writes to the pod's status why it cannot."""

from __future__ import annotations

from collections.abc import Callable

from kpo_async.localcluster.client import InProcessClient, NotFound, WatchEventType
from kpo_async.localcluster.events import record_scheduling
from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.labels import Requirement
from kpo_async.localcluster.store.objects import Object, is_deleting, with_condition

_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": ">", "Lt": "<"}


class Scheduler:
    """Binds pods that have no node."""

    def __init__(self, client: InProcessClient, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock

    async def run(self) -> None:
        """Work until cancelled."""
        async for event in self._client.watch("pods"):
            if event.type is not WatchEventType.DELETED:
                metadata = event.object["metadata"]
                try:
                    pod = self._client.get("pods", metadata["namespace"], metadata["name"])
                except NotFound:
                    continue
                self._schedule(pod)

    def _schedule(self, pod: Object) -> None:
        spec, metadata = pod["spec"], pod["metadata"]
        if spec.get("nodeName") or is_deleting(pod) or spec["schedulerName"] != "default-scheduler":
            return
        if spec.get("schedulingGates"):
            self._write_reason(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
            return
        problem = _misfit(self._client.get("nodes", "", NODE_NAME), spec)
        if problem:
            message = (
                f"0/1 nodes are available: {problem}. no new claims to deallocate, "
                "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            )
            self._write_reason(pod, "Unschedulable", message)
            return
        self._client.bind(pod, NODE_NAME)
        where = f"{metadata['namespace']}/{metadata['name']}"
        self._record(pod, "Normal", "Scheduled", f"Successfully assigned {where} to {NODE_NAME}", "Binding")

    def _write_reason(self, pod: Object, reason: str, message: str) -> None:
        """Set the condition PodScheduled to False. An unchanged condition is not written again."""
        condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
        before: list[Object] = pod["status"].get("conditions", [])
        after = with_condition(before, condition, times.to_seconds(self._clock()))
        if before == after:
            return
        self._client.update_status("pods", {**pod, "status": {**pod["status"], "conditions": after}})
        if reason == "Unschedulable":
            self._record(pod, "Warning", "FailedScheduling", message, "Scheduling")

    def _record(self, pod: Object, event_type: str, reason: str, message: str, action: str) -> None:
        record_scheduling(self._client, self._clock(), pod, event_type, reason, message, action)


def _misfit(node: Object, spec: Object) -> str:
    """Why a pod cannot run on the node, in the scheduler's wording; "" when it can."""
    labels = node["metadata"].get("labels", {})
    tolerations = spec.get("tolerations", [])
    for taint in node["spec"].get("taints", []):
        if taint["effect"] in ("NoSchedule", "NoExecute") and not any(_tolerates(t, taint) for t in tolerations):
            return f"1 node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if node["spec"].get("unschedulable"):
        return "1 node(s) were unschedulable"
    selected = spec.get("nodeSelector", {})
    affinity = spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = affinity["nodeSelectorTerms"] if affinity else [{}]
    if any(labels.get(key) != value for key, value in selected.items()) or not any(
        _matches(term, labels) for term in terms
    ):
        return "1 node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect", taint["effect"]) != taint["effect"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return bool(toleration.get("key", taint["key"]) == taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))


def _matches(term: Object, labels: dict[str, str]) -> bool:
    """Whether a node's labels satisfy a term of a node affinity."""
    return all(
        Requirement(found["key"], _OPERATORS[found["operator"]], frozenset(found.get("values", []))).matches(labels)
        for found in term.get("matchExpressions", [])
    )
