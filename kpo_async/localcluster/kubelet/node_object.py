"""The Node object of the embedded cluster's only node."""

from __future__ import annotations

import os
import platform

from kpo_async.localcluster.api.discovery import VERSION
from kpo_async.localcluster.node import NODE_NAME
from kpo_async.localcluster.store.store import Object

PODS = "5000"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def describe() -> Object:
    """The node as it is to be created."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    capacity = {"cpu": str(os.cpu_count() or 1), "memory": _memory(), "pods": PODS}
    labels = {
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": NODE_NAME,
        "kubernetes.io/os": "linux",
        # Where simulated pods ask to run, on clusters with kwok nodes as well as here.
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
                "kubeletVersion": VERSION,
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
