"""Pods, and the final status of each on a real kubelet (Kubernetes 1.34.4, containerd).

`python -m tests.localcluster.kubelet.recorded KUBECONFIG` records them again into `recorded.json`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from tests.conformance.api import Access, Api
from tests.localcluster.kubelet.kubelet_harness import container

FILE = Path(__file__).with_suffix(".json")
_WAITS = "while true; do sleep 1 & wait $!; done"
_SIDECAR = container(f"trap 'printf bye > /dev/termination-log; exit 0' TERM; {_WAITS}", "a", restartPolicy="Always")
_SLOW_SIDECAR = container(f"trap 'sleep 0.1; exit 7' TERM; {_WAITS}", "b", restartPolicy="Always")


def _variable(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"name": "A", "valueFrom": {kind: {"name": name, "key": "a"}}}]


PODS: dict[str, dict[str, Any]] = {
    "succeeds": {"containers": [container("echo hi; printf done > /dev/termination-log")]},
    "fails": {
        "containers": [
            container("echo oops; exit 3", "z", terminationMessagePolicy="FallbackToLogsOnError"),
            container("exit 0", "y"),
        ]
    },
    "init-fails": {
        "initContainers": [container("exit 0", "one"), container("exit 4", "two"), container("exit 0", "three")],
        "containers": [container("exit 0")],
    },
    "init-crashes": {
        "restartPolicy": "OnFailure",
        "initContainers": [container("exit 5", "one")],
        "containers": [container("exit 0")],
    },
    "crashes": {"restartPolicy": "Always", "containers": [container("exit 3")]},
    "runs": {"containers": [container(_WAITS)]},
    "sidecars": {
        "initContainers": [_SIDECAR, _SLOW_SIDECAR, container("exit 0", "init")],
        "containers": [container("exit 0")],
    },
    "sidecar-and-failure": {"initContainers": [_SIDECAR], "containers": [container("exit 2")]},
    "too-late": {"activeDeadlineSeconds": 1, "containers": [container(f"trap 'exit 0' TERM; {_WAITS}")]},
    "no-map": {"containers": [container("exit 0", env=_variable("configMapKeyRef", "none"))]},
    "no-key": {"containers": [container("exit 0", env=_variable("configMapKeyRef", "map"))]},
    "no-secret": {"containers": [container("exit 0", envFrom=[{"secretRef": {"name": "none"}}])]},
    "no-volume": {
        "volumes": [{"name": "v", "configMap": {"name": "none"}}],
        "containers": [container("exit 0", volumeMounts=[{"name": "v", "mountPath": "/v", "readOnly": True}])],
    },
    "no-command": {"containers": [container(command=["nosuch"]), container(command=["/no/such"], name="path")]},
    "bad-image": {"containers": [{"name": "base", "image": "UPPER:1", "command": ["true"]}]},
}
WAITING_ENDS = ("CrashLoopBackOff", "CreateContainerConfigError", "InvalidImageName")


def has_settled(name: str, pod: dict[str, Any]) -> bool:
    """Whether the pod has the status to record."""
    status = pod["status"]
    if name == "runs":
        return bool(status["phase"] == "Running")
    if name == "no-volume":
        return "containerStatuses" in status
    return status["phase"] in ("Succeeded", "Failed") or any(reason in str(status) for reason in WAITING_ENDS)


def normal(value: Any, key: str = "") -> Any:
    """Return a status without the values that differ between runs or container runtimes."""
    if isinstance(value, dict):
        cleaned = {name: normal(entry, name) for name, entry in value.items()}
        return {name: entry for name, entry in cleaned.items() if name != "volumeMounts" or entry}
    if isinstance(value, list):
        return [normal(entry, key) for entry in value if not _is_token(entry)]
    if isinstance(value, str):
        if key in ("containerID", "imageID", "podIP", "ip", "image"):
            return bool(value)
        if key.endswith(("At", "Time")):
            return value if value.startswith("1970") else "<time>"
        return re.sub(r"=\S+_\S+\([0-9a-f-]{36}\)", "=<pod>", re.sub(r"kpo-recorded-\w+", "ns", value))
    return value


def _is_token(mount: Any) -> bool:
    return isinstance(mount, dict) and mount.get("name", "").startswith("kube-api-access-")


async def record(kubeconfig: Path) -> dict[str, Any]:
    """Run all pods on a real cluster, and return the status of each."""
    async with aiohttp.ClientSession() as session:
        api = Api(session, Access.load(kubeconfig), f"kpo-recorded-{uuid.uuid4().hex[:6]}")
        await api.create("/api/v1/namespaces", {"metadata": {"name": api.namespace}})
        try:
            async with api.watch("serviceaccounts", resourceVersion="0") as watch:
                await watch.until(lambda event: event.name == "default")
            await api.create("configmaps", {"metadata": {"name": "map"}, "data": {"b": "x"}})
            settled = await asyncio.gather(*(_run(api, name, spec) for name, spec in PODS.items()))
            return dict(zip(PODS, settled, strict=True))
        finally:
            await api.delete("pods", gracePeriodSeconds="0")
            await api.delete(f"/api/v1/namespaces/{api.namespace}")


async def _run(api: Api, name: str, spec: dict[str, Any]) -> Any:
    async with api.watch(fieldSelector=f"metadata.name={name}") as watch:
        await api.create("pods", {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", **spec}})
        event = await watch.until(lambda event: has_settled(name, event.object), 60)
        return normal(event.object["status"])


if __name__ == "__main__":
    FILE.write_text(json.dumps(asyncio.run(record(Path(sys.argv[1]))), indent=1, sort_keys=True) + "\n")
