"""The Node object of the embedded cluster's only node."""

from __future__ import annotations

import os
import platform

from kpo_async.localcluster.node import KUBERNETES_VERSION, NODE_NAME
from kpo_async.localcluster.store.objects import Object

PODS = "5000"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def describe() -> Object:
    """Return the node as the kubelet registers it."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": _memory(), "pods": PODS}
    labels = {
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": NODE_NAME,
        "kubernetes.io/os": "linux",
        # Simulated pods select it, on clusters with kwok nodes as well.
        "type": "kwok",
    }
    return {
        "metadata": {"name": NODE_NAME, "labels": labels},
        "spec": {},
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": NODE_NAME},
            ],
            "nodeInfo": {
                "kubeletVersion": KUBERNETES_VERSION,
                "operatingSystem": "linux",
                "architecture": architecture,
                "osImage": "kpo-async local processes",
                "kernelVersion": platform.release(),
                "containerRuntimeVersion": "process://1",
            },
        },
    }


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 1024}Ki"
