"""A Kubernetes cluster without Docker: an API server on a loopback port, whose pods are local processes.

For demos and tests: `async with LocalCluster() as cluster: ... cluster.kubeconfig ...`.

It emulates what a client of pods can observe: pods, their logs, exec and events; the objects that pods refer to; lists,
watches and their failures; users and their rights. A feature that no client of pods can observe does not belong in it.
`tests/conformance` runs the same tests on this cluster and on a real one.
It shares no code with the rest of kpo_async: an emulator that shared the library's code would agree with its bugs.

Floors; each may import what is below it, and import-linter checks that:

    cluster                  LocalCluster: everything below as one context manager
    command, process         the same cluster in its own process; certificate, kubeconfig: its files
    controllers | kubelet    the control plane and the node, both clients of the API
    events                   their events about pods
    client                   the API in process: all that they know of the API server
    api | runtime            the API server; the kubelet's container runtime
    node                     what the API server asks of a kubelet: logs and exec
    store                    objects with versions and history; times and quantities
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpo_async.localcluster.cluster import LocalCluster

__all__ = ["LocalCluster"]


def __getattr__(name: str) -> Any:
    """Import `LocalCluster` when it is first used: the launcher of containers imports this package, stdlib only."""
    if name != "LocalCluster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("kpo_async.localcluster.cluster").LocalCluster
