"""Why the scheduler found no node, read from its message. Pure.

The scheduler counts the nodes by what speaks against each (`FitError.Error` in pkg/scheduler/framework/types.go):

    0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 4 Insufficient cpu. preemption: ...

A node may be counted twice. The texts are those of the scheduler's plugins from Kubernetes 1.20 to 1.35.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kpo_async.compat import StrEnum


class Obstacle(StrEnum):
    """What kind of thing keeps a pod off a node. The values are words for a sentence."""

    RESOURCES = "resources"
    AFFINITY = "affinity"
    TAINT = "taint"
    VOLUME = "volume"
    PORT = "host port"
    NODE_STATE = "node state"
    OTHER = "other"


@dataclass(frozen=True)
class Reason:
    """What the scheduler says of some nodes."""

    obstacle: Obstacle
    text: str
    """The scheduler's words, such as `Insufficient cpu`."""
    nodes: int = 0
    """The number of nodes; 0 for a reason that is about the pod, such as a claim that does not exist."""


_OBSTACLES: tuple[tuple[str, Obstacle], ...] = (
    (r"^insufficient|^too many pods|^cannot allocate", Obstacle.RESOURCES),
    # Before affinity: `node(s) had volume node affinity conflict`.
    (r"volume|persistentvolumeclaim|available disk|resourceclaim|storage", Obstacle.VOLUME),
    (r"untolerated taint|didn't tolerate", Obstacle.TAINT),
    (r"affinity|selector|topology spread|requested node name", Obstacle.AFFINITY),
    (r"free ports", Obstacle.PORT),
    (r"were unschedulable|not ready|unreachable|pressure|network unavailable", Obstacle.NODE_STATE),
)
_SUMMARY = re.compile(r"^\d+/\d+ nodes are available: (.*)", re.DOTALL)
_AFTERWARDS = re.compile(r"[.,]? *(?:no new claims to deallocate|preemption:).*", re.DOTALL)
# A comma that is followed by a count: old texts have others, `taint {a: b}, that the pod didn't tolerate`.
_BETWEEN = re.compile(r", (?=\d+ )")
_COUNTED = re.compile(r"(\d+) (.*)", re.DOTALL)

HINTS: dict[Obstacle, str] = {
    Obstacle.RESOURCES: "lower the requests in container_resources, or add nodes",
    Obstacle.AFFINITY: "correct node_selector or affinity, or label a node so that it matches",
    Obstacle.TAINT: "add a toleration to tolerations, or use nodes without the taint",
    Obstacle.VOLUME: "check that the claim exists, is bound, and is in a zone that has nodes for the pod",
    Obstacle.PORT: "run fewer pods with this host port, or do without hostnetwork",
    Obstacle.NODE_STATE: "wait until the nodes are ready and uncordoned, or add nodes",
}


def reasons(message: str) -> list[Reason]:
    """Return what the scheduler's message says, what is about the most nodes first; empty for another message."""
    summary = _SUMMARY.match(message.strip())
    listed = _AFTERWARDS.sub("", summary[1] if summary else message).strip().rstrip(".")
    if not listed:
        return []
    found = [_reason(part) for part in _BETWEEN.split(listed)]
    if summary is None and all(reason.obstacle is Obstacle.OTHER for reason in found):
        return []
    return sorted(found, key=lambda reason: (reason.nodes > 0, -reason.nodes))


def obstacles(message: str) -> list[Obstacle]:
    """Return each kind of obstacle in the message once, the one that is about the most nodes first."""
    return list(dict.fromkeys(reason.obstacle for reason in reasons(message)))


def _reason(part: str) -> Reason:
    counted = _COUNTED.fullmatch(part)
    nodes, text = (int(counted[1]), counted[2]) if counted else (0, part)
    text = text.removeprefix("node(s) ")
    obstacle = next((kind for words, kind in _OBSTACLES if re.search(words, text, re.IGNORECASE)), Obstacle.OTHER)
    return Reason(obstacle, text, nodes)
