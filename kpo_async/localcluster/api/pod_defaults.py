"""What the API server adds to a new pod: version v1's defaults, and the fields of the standard admission plugins.

Pure functions of pods.
"""

from __future__ import annotations

import random
import re
from fractions import Fraction

from kpo_async.localcluster.store import quantity
from kpo_async.localcluster.store.objects import Object

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of generated suffixes: no vowels, and none that look alike."""

_POD_SPEC = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3607


def generated_suffix() -> str:
    """Return five random letters, to follow a `generateName`."""
    return "".join(random.choices(SUFFIX_LETTERS, k=5))


def fill(pod: Object) -> Object:
    """Return the pod with the defaults of core/v1 and the status of a new pod."""
    spec = {**_POD_SPEC, **pod.get("spec", {})}
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        spec["terminationGracePeriodSeconds"] = 1
    for key in ("initContainers", "containers"):
        if key in spec:
            spec[key] = [_container(found, init=key == "initContainers") for found in spec[key]]
    if "volumes" in spec:
        spec["volumes"] = [_volume(found) for found in spec["volumes"]]
    filled = {"kind": "Pod", "apiVersion": "v1", "metadata": pod["metadata"], "spec": spec}
    filled["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
    return filled


def _container(container: Object, *, init: bool) -> Object:
    filled = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": _pull_policy(container.get("image", "")),
        **container,
    }
    if not init or filled.get("restartPolicy") != "Always":
        # Kubernetes 1.34 supports restart policies of containers for native sidecars only.
        filled.pop("restartPolicy", None)
    if limits := filled["resources"].get("limits"):
        requests = {**limits, **filled["resources"].get("requests", {})}
        filled["resources"] = {**filled["resources"], "requests": requests}
    if "env" in filled:
        filled["env"] = [_env(found) for found in filled["env"]]
    if "ports" in filled:
        filled["ports"] = [{"protocol": "TCP", **found} for found in filled["ports"]]
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if key in filled:
            filled[key] = _probe(filled[key])
    return filled


def _pull_policy(image: str) -> str:
    """Always for the tag `latest`, explicit or implied; IfNotPresent for every other tag and for digests."""
    name, digest = image.partition("@")[::2]
    tag = re.search(r":([^/:]*)$", name)
    return "IfNotPresent" if digest or (tag and tag.group(1) != "latest") else "Always"


def _env(entry: Object) -> Object:
    source: Object = entry.get("valueFrom", {})
    if "fieldRef" not in source:
        return entry
    return {**entry, "valueFrom": {**source, "fieldRef": {"apiVersion": "v1", **source["fieldRef"]}}}


def _probe(probe: Object) -> Object:
    filled = {**probe, **{key: value for key, value in _PROBE.items() if key not in probe}}
    if "httpGet" in filled:
        filled["httpGet"] = {"path": "/", "scheme": "HTTP", **filled["httpGet"]}
    return filled


def _volume(volume: Object) -> Object:
    kinds = [key for key in volume if key != "name"]
    if not kinds:
        return {**volume, "emptyDir": {}}
    filled = dict(volume)
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if kind in filled:
            filled[kind] = {**filled[kind], "defaultMode": filled[kind].get("defaultMode", _DEFAULT_MODE)}
    if "downwardAPI" in filled:
        filled["downwardAPI"] = _downward(filled["downwardAPI"])
    if "projected" in filled:
        sources = [
            {**source, "downwardAPI": _downward(source["downwardAPI"])} if "downwardAPI" in source else source
            for source in filled["projected"].get("sources", [])
        ]
        filled["projected"] = {**filled["projected"], "sources": sources}
    if "hostPath" in filled:
        filled["hostPath"] = {"type": "", **filled["hostPath"]}
    return filled


def _downward(source: Object) -> Object:
    if "items" not in source:
        return source
    items = [
        {**item, "fieldRef": {"apiVersion": "v1", **item["fieldRef"]}} if "fieldRef" in item else item
        for item in source["items"]
    ]
    return {**source, "items": items}


def qos_class(spec: Object) -> str:
    """Return Guaranteed, Burstable or BestEffort."""
    guaranteed, anything = True, False
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        resources = container.get("resources", {})
        limits = _compute(resources.get("limits", {}))
        requests = _compute(resources.get("requests", {}))
        anything = anything or bool(limits or requests)
        guaranteed = guaranteed and len(limits) == 2 and requests == limits
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _compute(amounts: dict[str, str]) -> dict[str, Fraction]:
    found = {key: quantity.parse(amounts[key]) for key in ("cpu", "memory") if key in amounts}
    return {key: amount for key, amount in found.items() if amount}


def admit(pod: Object, *, priority: int, preemption: str) -> Object:
    """Return the pod with the fields of admission: priority, two default tolerations, its service account's token."""
    spec = {**pod["spec"], "priority": priority, "preemptionPolicy": preemption}
    spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = spec["serviceAccountName"]
    tolerations = list(spec.get("tolerations", []))
    for taint in ("not-ready", "unreachable"):
        key = f"node.kubernetes.io/{taint}"
        if not any(_tolerates(found, key) for found in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = tolerations
    if spec.get("automountServiceAccountToken", True):
        spec = _mount_token(spec)
    return {**pod, "spec": spec}


def _tolerates(toleration: Object, key: str) -> bool:
    return bool(toleration.get("key", key) == key and toleration.get("effect", "NoExecute") == "NoExecute")


def _mount_token(spec: Object) -> Object:
    name = f"kube-api-access-{generated_suffix()}"
    mounted = False
    filled = dict(spec)
    for key in ("initContainers", "containers"):
        containers = []
        for container in spec.get(key, []):
            mounts = container.get("volumeMounts", [])
            if not any(mount.get("mountPath") == TOKEN_PATH for mount in mounts):
                mounted = True
                mounts = [*mounts, {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}]
            containers.append({**container, "volumeMounts": mounts})
        if containers:
            filled[key] = containers
    if mounted:
        filled["volumes"] = [*spec.get("volumes", []), _token_volume(name)]
    return filled


def _token_volume(name: str) -> Object:
    certificate = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
                {"configMap": certificate},
                {"downwardAPI": {"items": [namespace]}},
            ],
            "defaultMode": _DEFAULT_MODE,
        },
    }
