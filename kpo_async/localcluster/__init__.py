"""A Kubernetes API server whose pods are local processes, on a loopback port, for demos and tests.

It shares no code with the rest of kpo_async: an emulator that shared our code would agree with our bugs.

    cluster      LocalCluster: everything below as one context manager; process, command: the same as a process
    store        versioned objects, their history, and who listens; node: what the server asks of a kubelet

    server       HTTP: routes, authenticates, authorizes, counts     listener   the socket
      route, call, bodies, schema, protobuf                           what a request asks for
      identity, access, reviews                                       who asks, and whether they may
      operations, listing, watching, tables, pod_streams, discovery   the answers
      faults, fault_kinds                                             wrong answers, on purpose
    registry     the rules of creating and changing; deletion: of deleting
      strategies, admission, validate, pod_validate, pod_defaults, patches, quantity
    controllers  namespaces, quotas, events; scheduler: pods find the node

    kubelet      runs the pods bound to the node
      podworker, containers, handlers, grace, podstatus, events       a pod's life
      volumes, env, downward, images                                  what it finds inside
      runtime, launcher, sandbox                                      its processes
      podlogs, logfile, execsession                                   its output, and entering it
      simulated                                                       pods without processes, by the thousand
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
