"""The scheduler's messages, as Kubernetes writes them, are split into kinds of obstacles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.pod.scheduling import Obstacle, Reason, obstacles, reasons
from kpo_async.pod.status import assess
from tests.pod.samples import recorded

PREEMPTION = ". preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("reason", "obstacle"),
    [
        ("5 Insufficient cpu", Obstacle.RESOURCES),
        ("5 Insufficient memory", Obstacle.RESOURCES),
        ("5 Insufficient ephemeral-storage", Obstacle.RESOURCES),
        ("5 Insufficient nvidia.com/gpu", Obstacle.RESOURCES),
        ("5 Too many pods", Obstacle.RESOURCES),
        ("5 node(s) didn't match Pod's node affinity/selector", Obstacle.AFFINITY),
        ("5 node(s) didn't match node selector", Obstacle.AFFINITY),
        ("5 node(s) didn't match pod affinity rules", Obstacle.AFFINITY),
        ("5 node(s) didn't match pod anti-affinity rules", Obstacle.AFFINITY),
        ("5 node(s) didn't satisfy existing pods anti-affinity rules", Obstacle.AFFINITY),
        ("5 node(s) didn't match pod topology spread constraints", Obstacle.AFFINITY),
        ("5 node(s) didn't match the requested node name", Obstacle.AFFINITY),
        ("5 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }", Obstacle.TAINT),
        ("5 node(s) had untolerated taint(s)", Obstacle.TAINT),
        ("5 node(s) had taint {dedicated: gpu}, that the pod didn't tolerate", Obstacle.TAINT),
        ("5 node(s) had untolerated taint {node.kubernetes.io/unreachable: }", Obstacle.TAINT),
        ("5 node(s) were unschedulable", Obstacle.NODE_STATE),
        ("5 node(s) had volume node affinity conflict", Obstacle.VOLUME),
        ("5 node(s) had no available volume zone", Obstacle.VOLUME),
        ("5 node(s) didn't find available persistent volumes to bind", Obstacle.VOLUME),
        ("5 node(s) exceed max volume count", Obstacle.VOLUME),
        ("5 node(s) did not have enough free storage", Obstacle.VOLUME),
        ("5 node(s) didn't have free ports for the requested pod ports", Obstacle.PORT),
        ("pod has unbound immediate PersistentVolumeClaims", Obstacle.VOLUME),
        ('persistentvolumeclaim "data" not found', Obstacle.VOLUME),
        ('persistentvolumeclaim "data" bound to non-existent persistentvolume "pv-1"', Obstacle.VOLUME),
        ("5 something that a plugin of the cluster says", Obstacle.OTHER),
    ],
)
@pytest.mark.parametrize("end", [".", PREEMPTION, ". no new claims to deallocate, preemption: not eligible."])
def test_every_text_of_the_scheduler_is_of_one_kind(reason: str, obstacle: Obstacle, end: str) -> None:
    assert obstacles(f"0/5 nodes are available: {reason}{end}") == [obstacle]


def test_several_reasons_are_ordered_by_their_nodes() -> None:
    message = (
        "0/9 nodes are available: 1 node(s) had taint {a: b}, that the pod didn't tolerate, 2 Insufficient cpu, "
        f"6 node(s) didn't match Pod's node affinity/selector{PREEMPTION}"
    )
    assert reasons(message) == [
        Reason(Obstacle.AFFINITY, "didn't match Pod's node affinity/selector", 6),
        Reason(Obstacle.RESOURCES, "Insufficient cpu", 2),
        Reason(Obstacle.TAINT, "had taint {a: b}, that the pod didn't tolerate", 1),
    ]


def test_a_reason_about_the_pod_comes_first() -> None:
    message = '0/3 nodes are available: persistentvolumeclaim "data" not found, 3 Insufficient cpu.'
    assert obstacles(message) == [Obstacle.VOLUME, Obstacle.RESOURCES]


def test_a_recorded_message_is_split() -> None:
    assert obstacles(assess(recorded("unschedulable"), "base").scheduling) == [Obstacle.TAINT, Obstacle.AFFINITY]


@given(st.text())
def test_any_other_message_raises_nothing(message: str) -> None:
    assert all(reason.text is not None for reason in reasons(message))
    assert reasons("no nodes available to schedule pods") == []
