"""Admission: checks and additions that need other objects (namespace, service account, priority class, quota)."""

from __future__ import annotations

from kpo_async.localcluster.api import errors, pod_defaults
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.store import quantity
from kpo_async.localcluster.store.objects import Object, has_ended, is_deleting
from kpo_async.localcluster.store.store import ObjectNotFound, Store

_BUILT_IN_PRIORITIES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def check_namespace(store: Store, resource: Resource, obj: Object) -> None:
    """Raise NotFound without the namespace, and StatusError (403) when it is being deleted."""
    where = obj["metadata"].get("namespace", "")
    try:
        namespace = store.get("namespaces", "", where)
    except ObjectNotFound:
        raise errors.NotFound("namespaces", where) from None
    if is_deleting(namespace):
        name = obj["metadata"].get("name", "")
        message = f"unable to create new content in namespace {where} because it is being terminated"
        error = errors.forbidden(resource.name, name, message, resource.group)
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {where} is being terminated",
            "field": "metadata.namespace",
        }
        error.details = {**(error.details or {}), "causes": [cause]}
        raise error


def admit_pod(store: Store, pod: Object) -> Object:
    """Return the pod with its service account's token and its priority. Raises StatusError (403)."""
    metadata, spec = pod["metadata"], pod["spec"]
    name, namespace = metadata.get("name", ""), metadata["namespace"]
    account = spec.get("serviceAccountName", "default")
    try:
        found = store.get("serviceaccounts", namespace, account)
    except ObjectNotFound:
        message = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise errors.forbidden("pods", name, message) from None
    if not found.get("automountServiceAccountToken", True):
        spec = {"automountServiceAccountToken": False, **spec}
    if secrets := found.get("imagePullSecrets"):
        spec = {"imagePullSecrets": secrets, **spec}
    priority, preemption = _priority(store, name, spec)
    if spec.get("priority", priority) != priority:
        message = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {priority} from the given PriorityClass name"
        )
        raise errors.forbidden("pods", name, message)
    if spec.get("runtimeClassName"):
        message = f'pod rejected: RuntimeClass "{spec["runtimeClassName"]}" not found'
        raise errors.forbidden("pods", name, message)
    return pod_defaults.admit({**pod, "spec": spec}, priority=priority, preemption=preemption)


def _priority(store: Store, pod: str, spec: Object) -> tuple[int, str]:
    wanted = spec.get("priorityClassName")
    preemption: str = spec.get("preemptionPolicy", "PreemptLowerPriority")
    if wanted in _BUILT_IN_PRIORITIES:
        return _BUILT_IN_PRIORITIES[wanted], preemption
    classes = store.list("priorityclasses")
    if wanted:
        found = next((known for known in classes if known["metadata"]["name"] == wanted), None)
        if found is None:
            raise errors.forbidden("pods", pod, f"no PriorityClass with name {wanted} was found")
    else:
        found = max((known for known in classes if known.get("globalDefault")), key=lambda c: c["value"], default=None)
    if found is None:
        return 0, preemption
    return found["value"], found.get("preemptionPolicy") or preemption


def counted_pods(store: Store, namespace: str) -> int:
    """Return the number of pods that a quota counts: those that have not ended."""
    return sum(not has_ended(pod) for pod in store.list("pods", namespace))


def check_quota(store: Store, pod: Object) -> None:
    """Raise StatusError (403) when one more pod would exceed a ResourceQuota."""
    metadata = pod["metadata"]
    for quota in store.list("resourcequotas", metadata["namespace"]):
        for key in ("pods", "count/pods"):
            limit = quota.get("spec", {}).get("hard", {}).get(key)
            if limit is None:
                continue
            used = counted_pods(store, metadata["namespace"])
            if used + 1 > quantity.parse(limit):
                message = (
                    f"exceeded quota: {quota['metadata']['name']}, requested: {key}=1, "
                    f"used: {key}={used}, limited: {key}={limit}"
                )
                raise errors.forbidden("pods", metadata["name"], message)
