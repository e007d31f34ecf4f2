"""Pods' states: recorded pods, a table of invented ones, and every combination of a status's parts."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.api_types import (
    ContainerSpec,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ObjectMeta,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    SchedulingGate,
)
from kpo_async.pod.containers import ContainerKind
from kpo_async.pod.status import COMPANIONS_DEADLINE, PodState, Verdict, assess
from kpo_async.pod.timestamps import parse_time
from tests.pod.samples import at, condition, ended, pod, recorded, running, waiting


def moment(second: int) -> datetime:
    return datetime(2026, 11, 21, 9, second // 60, second % 60, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("name", "verdict", "exit_code", "signal", "reason"),
    [
        ("succeeded", Verdict.SUCCEEDED, 0, None, "Completed"),
        ("exit_3", Verdict.FAILED, 3, None, "Error"),
        ("oom_killed", Verdict.FAILED, 137, 9, "OOMKilled"),
        ("signal_11", Verdict.FAILED, 139, 11, "Error"),
        ("start_error", Verdict.FAILED, 128, None, "StartError"),
        ("deadline_exceeded", Verdict.FAILED, 137, 9, "DeadlineExceeded"),
        ("init_exit_7", Verdict.FAILED, None, None, "Error"),
        ("evicting", Verdict.RUNNING, None, None, ""),
        ("evicted_by_api", Verdict.LOST, 137, 9, "EvictionByEvictionAPI"),
        ("image_invalid_name", Verdict.STARTING, None, None, ""),
        ("image_unknown_host", Verdict.STARTING, None, None, ""),
        ("missing_configmap", Verdict.STARTING, None, None, ""),
        ("missing_volume", Verdict.STARTING, None, None, ""),
        ("scheduling_gated", Verdict.PENDING, None, None, ""),
        ("unschedulable", Verdict.PENDING, None, None, ""),
    ],
)
def test_recorded_pods_have_the_expected_state(
    name: str, verdict: Verdict, exit_code: int | None, signal: int | None, reason: str
) -> None:
    state = assess(recorded(name), "base")
    assert (state.verdict, state.exit_code, state.signal, state.reason) == (verdict, exit_code, signal, reason)


DISRUPTED = condition("DisruptionTarget", since=30, reason="PreemptionByScheduler")
EVICTED = condition("DisruptionTarget", since=30, reason="TerminationByKubelet")
NOT_READY = condition("Ready", "False", reason="PodFailed")
DELETED = {"deletionTimestamp": at(60), "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        pytest.param(pod(phase=None, node=None), Verdict.PENDING, "", id="just created"),
        pytest.param(pod(phase="Pending"), Verdict.STARTING, "", id="bound to a node, nothing reported"),
        pytest.param(pod(phase="Pending", statuses=[waiting()]), Verdict.STARTING, "", id="waiting"),
        pytest.param(pod(statuses=[running()]), Verdict.RUNNING, "", id="running"),
        pytest.param(pod(phase="Unknown", statuses=[running()]), Verdict.RUNNING, "", id="node does not answer"),
        pytest.param(pod(statuses=[running()], **DELETED), Verdict.RUNNING, "", id="being deleted"),
        pytest.param(
            pod(statuses=[running()], conditions=[DISRUPTED], **DELETED), Verdict.RUNNING, "", id="being preempted"
        ),
        pytest.param(
            pod(statuses=[ended(), running("sidecar")]), Verdict.SUCCEEDED, "", id="a companion that never ends"
        ),
        pytest.param(
            pod(statuses=[ended(code=1), running("sidecar")]), Verdict.FAILED, "", id="failed, companion runs"
        ),
        pytest.param(pod(statuses=[running(), ended("sidecar", 1)]), Verdict.RUNNING, "", id="a companion that failed"),
        pytest.param(
            pod(phase="Failed", statuses=[ended(), ended("sidecar", 1)]),
            Verdict.SUCCEEDED,
            "",
            id="its failure is not the base container's",
        ),
        pytest.param(pod(phase="Succeeded"), Verdict.SUCCEEDED, "", id="a node that reports no containers"),
        pytest.param(pod(phase="Failed"), Verdict.LOST, "NoStatus", id="failed without a word"),
        pytest.param(pod(phase="Failed", reason="Evicted"), Verdict.LOST, "Evicted", id="evicted before it ran"),
        pytest.param(
            pod(phase="Failed", conditions=[DISRUPTED]),
            Verdict.LOST,
            "PreemptionByScheduler",
            id="preempted before it ran",
        ),
        pytest.param(pod(phase="Failed", reason="OutOfcpu"), Verdict.LOST, "OutOfcpu", id="rejected by its node"),
        pytest.param(
            pod(phase="Failed", reason="DeadlineExceeded"),
            Verdict.FAILED,
            "DeadlineExceeded",
            id="deadline before it ran",
        ),
        pytest.param(
            pod(phase="Failed", statuses=[running()]), Verdict.LOST, "NodeLost", id="failed while running: node gone"
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", statuses=[ended(code=137)]), Verdict.LOST, "Evicted", id="evicted"
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", statuses=[ended(code=0)]),
            Verdict.SUCCEEDED,
            "",
            id="done before that",
        ),
        pytest.param(
            pod(phase="Failed", reason="DeadlineExceeded", statuses=[ended(finished=61)], deadline=60),
            Verdict.FAILED,
            "DeadlineExceeded",
            id="a deadline that the program obeyed",
        ),
        pytest.param(
            pod(statuses=[ended(finished=61)], conditions=[NOT_READY], deadline=60),
            Verdict.FAILED,
            "DeadlineExceeded",
            id="the same, its phase not reported yet",
        ),
        pytest.param(
            pod(statuses=[ended(code=137, finished=61, reason="Error")], deadline=60),
            Verdict.FAILED,
            "DeadlineExceeded",
            id="a deadline that killed the program, its reason not reported yet",
        ),
        pytest.param(
            pod(statuses=[ended(code=137, finished=60, reason="Error")], deadline=60),
            Verdict.FAILED,
            "Error",
            id="killed before the deadline",
        ),
        pytest.param(
            pod(statuses=[ended(code=137, finished=61, reason="OOMKilled")], deadline=60),
            Verdict.FAILED,
            "OOMKilled",
            id="out of memory after the deadline",
        ),
        pytest.param(
            pod(phase="Failed", reason="DeadlineExceeded", statuses=[ended(finished=60), ended("c", 137)], deadline=60),
            Verdict.SUCCEEDED,
            "",
            id="done before the deadline ended a companion",
        ),
        pytest.param(
            pod(phase="Failed", reason="DeadlineExceeded", statuses=[ended(finished=61)], deadline=COMPANIONS_DEADLINE),
            Verdict.SUCCEEDED,
            "",
            id="done, and its running_main_containers stopped by this library",
        ),
        pytest.param(
            pod(phase="Succeeded", statuses=[ended(finished=62)], deadline=60),
            Verdict.SUCCEEDED,
            "",
            id="done before the kubelet looked at the deadline",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", statuses=[ended(finished=31)], conditions=[EVICTED]),
            Verdict.LOST,
            "Evicted",
            id="an eviction that the program obeyed",
        ),
        pytest.param(
            pod(phase="Failed", reason="Evicted", statuses=[ended(finished=30)], conditions=[EVICTED]),
            Verdict.SUCCEEDED,
            "",
            id="done in the second of the eviction",
        ),
        pytest.param(
            pod(statuses=[ended(finished=40)], conditions=[DISRUPTED], **DELETED),
            Verdict.SUCCEEDED,
            "",
            id="preempted and done within the grace, as a Job counts it",
        ),
        pytest.param(
            pod(statuses=[ended(code=1, finished=20)], conditions=[DISRUPTED]),
            Verdict.FAILED,
            "",
            id="failed, then preempted",
        ),
        pytest.param(
            pod(statuses=[ended(code=1, finished=40)], conditions=[DISRUPTED]),
            Verdict.LOST,
            "PreemptionByScheduler",
            id="preempted, then failed",
        ),
        pytest.param(
            pod(statuses=[ended(code=1, finished=29)], **DELETED), Verdict.FAILED, "", id="failed, then deleted"
        ),
        pytest.param(
            pod(statuses=[ended(code=143, finished=31)], **DELETED), Verdict.LOST, "Deleted", id="deleted, then stopped"
        ),
        pytest.param(
            pod(statuses=[ended(code=1, finished=30)], **DELETED),
            Verdict.FAILED,
            "",
            id="failed in the second of deletion",
        ),
        pytest.param(
            pod(statuses=[ended(code=137, finished=30)], **DELETED), Verdict.LOST, "Deleted", id="killed in that second"
        ),
        pytest.param(
            pod(statuses=[ended(code=137, reason="ContainerStatusUnknown")]),
            Verdict.LOST,
            "ContainerStatusUnknown",
            id="the node forgot it",
        ),
        pytest.param(
            pod(
                phase="Failed",
                init_statuses=[ended("prepare", 7, reason="Error")],
                statuses=[waiting()],
                init_containers=[{"name": "prepare"}],
            ),
            Verdict.FAILED,
            "Error",
            id="an init container failed",
        ),
        pytest.param(
            pod(statuses=[{**waiting(reason="CrashLoopBackOff"), "lastState": ended(code=1)["state"]}]),
            Verdict.RUNNING,
            "",
            id="restarting",
        ),
        pytest.param(
            pod(phase="Failed", statuses=[{**waiting(), "lastState": ended(code=5)["state"]}]),
            Verdict.FAILED,
            "",
            id="failed between restarts",
        ),
        pytest.param(pod(statuses=[running("other")]), Verdict.STARTING, "", id="base not reported yet"),
    ],
)
def test_the_verdict_is_the_base_containers(seen: Pod, verdict: Verdict, reason: str) -> None:
    state = assess(seen, "base")
    assert (state.verdict, state.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("seen", "verdict", "reason"),
    [
        pytest.param(None, Verdict.LOST, "Deleted", id="never seen"),
        pytest.param(pod(statuses=[running()]), Verdict.LOST, "Deleted", id="last seen running"),
        pytest.param(pod(phase="Pending", node=None), Verdict.LOST, "Deleted", id="last seen pending"),
        pytest.param(
            pod(statuses=[running()], conditions=[DISRUPTED]), Verdict.LOST, "PreemptionByScheduler", id="preempted"
        ),
        pytest.param(pod(statuses=[ended()]), Verdict.SUCCEEDED, "", id="had succeeded"),
        pytest.param(pod(statuses=[ended(code=1)]), Verdict.FAILED, "", id="had failed"),
    ],
)
def test_a_pod_that_is_gone_has_a_final_verdict(seen: Pod | None, verdict: Verdict, reason: str) -> None:
    state = assess(seen, "base", gone=True)
    assert (state.verdict, state.reason) == (verdict, reason)


def test_a_pod_not_seen_yet_is_pending() -> None:
    assert assess(None, "base") == PodState(Verdict.PENDING, "base")


def test_times_are_kubernetes_own() -> None:
    state = assess(pod(statuses=[ended(finished=60)]), "base")
    assert (state.created_at, state.scheduled_at, state.started_at, state.finished_at) == (
        moment(0),
        moment(1),
        moment(5),
        moment(60),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T09:00:05Z", moment(5)),
        ("2026-11-21T09:00:05.123456Z", moment(5)),
        ("1970-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
        ("yesterday", None),
        ("2026-13-21T09:00:05Z", None),
    ],
)
def test_a_timestamp_is_parsed_or_none(text: str | None, expected: datetime | None) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    ("seen", "second"),
    [
        pytest.param(pod(statuses=[running()]), None, id="healthy"),
        pytest.param(pod(statuses=[running()], **DELETED), 90, id="deleted, and its node is silent"),
        pytest.param(
            pod(phase="Unknown", conditions=[condition("Ready", "Unknown", since=30)]), 330, id="node does not answer"
        ),
        pytest.param(pod(statuses=[ended()], **DELETED), None, id="ended anyway"),
    ],
)
def test_a_pod_whose_node_is_silent_is_lost_after_a_while(seen: Pod, second: int | None) -> None:
    assert assess(seen, "base").lost_at == (moment(second) if second is not None else None)


def test_containers_are_listed_in_spec_order_with_their_status() -> None:
    seen = pod(
        phase="Running",
        init_containers=[{"name": "prepare"}, {"name": "mesh", "restartPolicy": "Always"}],
        containers=[{"name": "companion"}, {"name": "base", "image": "busybox"}],
        init_statuses=[running("mesh"), ended("prepare")],
        statuses=[waiting("base", "ContainerCreating")],
    )
    state = assess(seen, "base")
    assert [(c.name, c.kind, c.started, c.ended) for c in state.containers] == [
        ("prepare", ContainerKind.INIT, True, True),
        ("mesh", ContainerKind.SIDECAR, True, False),
        ("companion", ContainerKind.MAIN, False, False),
        ("base", ContainerKind.MAIN, False, False),
    ]


def test_a_crashed_sidecar_has_not_ended_while_its_pod_runs() -> None:
    sidecar: dict[str, Any] = {"init_containers": [{"name": "mesh", "restartPolicy": "Always"}]}
    going_on = assess(pod(init_statuses=[ended("mesh", 1)], **sidecar), "base").container("mesh")
    over = assess(pod(phase="Succeeded", init_statuses=[ended("mesh", 1)], **sidecar), "base").container("mesh")
    assert going_on is not None
    assert over is not None
    assert (going_on.ended, over.ended) == (False, True)


def test_running_main_containers_leave_out_the_base_and_the_ended() -> None:
    containers = [{"name": "base"}, {"name": "a"}, {"name": "b"}]
    state = assess(pod(containers=containers, statuses=[ended(), running("a"), ended("b")]), "base")
    assert state.running_main_containers == ("a",)


words = st.none() | st.sampled_from(
    ["", "Evicted", "DeadlineExceeded", "OutOfmemory", "Error", "OOMKilled", "ContainerStatusUnknown", "NodeLost", "?"]
)
times = st.none() | st.sampled_from([at(0), at(30), at(60), "1970-01-01T00:00:00Z", "", "soon"])
terminated = st.builds(
    ContainerStateTerminated,
    exit_code=st.sampled_from([0, 1, 3, 128, 137, 143, 255, -1]),
    signal=st.none() | st.integers(0, 64),
    reason=words,
    message=words,
    started_at=times,
    finished_at=times,
)
container_states = st.none() | st.builds(
    ContainerState,
    waiting=st.none() | st.builds(ContainerStateWaiting, reason=words, message=words),
    running=st.none() | st.builds(ContainerStateRunning, started_at=times),
    terminated=st.none() | terminated,
)
names = st.sampled_from(["base", "init", "mesh", "other", ""])
statuses = st.none() | st.lists(
    st.builds(ContainerStatus, name=names, state=container_states, last_state=container_states), max_size=3
)
conditions = st.none() | st.lists(
    st.builds(
        PodCondition,
        type=st.sampled_from(["PodScheduled", "Ready", "DisruptionTarget", "Initialized"]),
        status=st.sampled_from(["True", "False", "Unknown", ""]),
        reason=words,
        last_transition_time=times,
    ),
    max_size=3,
)
container_specs = st.none() | st.lists(
    st.builds(ContainerSpec, name=names, restart_policy=st.none() | st.just("Always")), max_size=3
)
pods = st.builds(
    Pod,
    metadata=st.builds(
        ObjectMeta,
        creation_timestamp=times,
        deletion_timestamp=times,
        deletion_grace_period_seconds=st.none() | st.integers(-1, 40),
    ),
    spec=st.builds(
        PodSpec,
        node_name=st.none() | st.just("node-1"),
        containers=container_specs,
        init_containers=container_specs,
        scheduling_gates=st.none() | st.lists(st.builds(SchedulingGate), max_size=1),
        termination_grace_period_seconds=st.none() | st.integers(-1, 40),
    ),
    status=st.builds(
        PodStatus,
        phase=st.none() | st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown", "Odd"]),
        reason=words,
        message=words,
        start_time=times,
        conditions=conditions,
        container_statuses=statuses,
        init_container_statuses=statuses,
    ),
)


@given(pods, st.booleans())
def test_every_status_has_an_answer(seen: Pod, gone: bool) -> None:
    state = assess(seen, "base", gone=gone)
    if gone:
        assert state.verdict.ended
    if state.verdict.ended:
        assert state.lost_at is None
    if state.verdict is Verdict.SUCCEEDED:
        assert state.exit_code == 0 or state.phase == "Succeeded"


@given(pods)
def test_a_final_verdict_stays_when_the_pod_is_gone(seen: Pod) -> None:
    before = assess(seen, "base").verdict
    after = assess(seen, "base", gone=True).verdict
    assert after == (before if before.ended else Verdict.LOST)


@given(pods, st.integers(61, 200))
def test_deleting_a_pod_later_does_not_change_how_it_ended(seen: Pod, second: int) -> None:
    if seen.metadata.deletion_timestamp or not (before := assess(seen, "base")).verdict.ended:
        return
    metadata = msgspec.structs.replace(
        seen.metadata, deletion_timestamp=at(second + 30), deletion_grace_period_seconds=30
    )
    if before.finished_at is None and before.exit_code is not None:
        return  # the order of the two cannot be known
    assert assess(msgspec.structs.replace(seen, metadata=metadata), "base").verdict == before.verdict


@given(pods)
def test_sidecars_never_matter(seen: Pod) -> None:
    """Other containers' statuses matter only while the base container's own end is unknown."""
    state = assess(seen, "base")
    others = [status for status in seen.status.container_statuses or () if status.name != "base"]
    if state.exit_code is None or not others:
        return
    alone = [status for status in seen.status.container_statuses or () if status.name == "base"]
    status = msgspec.structs.replace(seen.status, container_statuses=alone)
    assert assess(msgspec.structs.replace(seen, status=status), "base").verdict == state.verdict
