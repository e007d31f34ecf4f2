"""A failure becomes one line: a stable category, the facts, the message, the hint."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from kpo_async.api_types import Event, Pod, PodCondition
from kpo_async.pod.causes import Category
from kpo_async.pod.diagnose import Diagnosis, diagnose, diagnose_refusal
from kpo_async.pod.start import Deadline, start_problem
from kpo_async.pod.status import assess
from tests.pod.samples import RECORDED, condition, ended, pod, recorded, running, waiting, warning
from tests.pod.test_status import pods


def diagnosed(seen: Pod | None, *, gone: bool = False, **more: Any) -> Diagnosis:
    return diagnose(seen, assess(seen, "base", gone=gone), **more)


@pytest.mark.parametrize(
    ("name", "category", "summary"),
    [
        ("exit_3", "ExitCode", "pod jobs/exit3: container 'base' failed with exit code 3 after 0 s on node node-1"),
        (
            "oom_killed",
            "OOMKilled",
            "pod jobs/oom: container 'base' ran out of memory with exit code 137, SIGKILL, OOMKilled after 0 s "
            "on node node-1",
        ),
        (
            "signal_11",
            "Signal",
            "pod jobs/signalled: container 'base' was ended by a signal with exit code 139, SIGSEGV after 0 s "
            "on node node-1",
        ),
        (
            "deadline_exceeded",
            "DeadlineExceeded",
            "pod jobs/deadline: container 'base' was stopped by its deadline with exit code 137, SIGKILL, "
            "DeadlineExceeded after 5 s on node node-1",
        ),
        (
            "start_error",
            "CannotRun",
            "pod jobs/nocommand: container 'base' could not be run with exit code 128, StartError on node node-1",
        ),
        ("init_exit_7", "InitFailed", "pod jobs/failinit: init container 'prepare' failed with exit code 7 after 0 s"),
        (
            "evicted_by_api",
            "Evicted",
            "pod jobs/evictme was evicted (EvictionByEvictionAPI) on node node-1 with exit code 137, SIGKILL "
            "after 47 s",
        ),
        ("evicting", "Running", "pod jobs/evictme is running on node node-1, being deleted"),
        (
            "image_unknown_host",
            "ImagePull",
            "pod jobs/badimage: image 'invalid.example/nothing:1' of container 'base' cannot be pulled (ErrImagePull)",
        ),
        (
            "image_invalid_name",
            "ImagePull",
            "pod jobs/badname: image 'Bad Image:::' of container 'base' cannot be pulled (InvalidImageName)",
        ),
        (
            "missing_configmap",
            "Config",
            "pod jobs/missingcm: container 'base' on node node-1 cannot be configured (CreateContainerConfigError)",
        ),
        (
            "missing_volume",
            "StartTimeout",
            "pod jobs/missingvol has not started yet on node node-1, waiting for container 'base' (ContainerCreating)",
        ),
        (
            "scheduling_gated",
            "SchedulingGated",
            "pod jobs/gated is not scheduled yet, it is held back by scheduling gates",
        ),
        ("unschedulable", "Unschedulable", "pod jobs/unsched is not scheduled yet (taint, affinity)"),
        ("succeeded", "Succeeded", "pod jobs/ok: container 'base' succeeded with exit code 0 after 0 s on node node-1"),
    ],
)
def test_recorded_pods_are_diagnosed(name: str, category: str, summary: str) -> None:
    diagnosis = diagnosed(recorded(name))
    assert (diagnosis.category.value, diagnosis.summary) == (category, summary)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exit_3", "disk full"),
        ("missing_configmap", 'configmap "nope" not found'),
        ("unschedulable", "0/5 nodes are available"),
        ("start_error", 'exec: "no-such-program": executable file not found in $PATH'),
        ("image_unknown_host", "no such host"),
    ],
)
def test_the_message_of_kubernetes_or_the_program_is_in_the_text(name: str, message: str) -> None:
    assert message in diagnosed(recorded(name)).text()


@pytest.mark.parametrize("name", RECORDED)
def test_a_text_is_one_line_that_names_the_pod(name: str) -> None:
    seen = recorded(name)
    text = diagnosed(seen, problem=start_problem(seen, assess(seen, "base"))).text()
    assert f"pod jobs/{seen.metadata.name}" in text
    assert "\n" not in text
    assert len(text.encode()) <= 1024


PREEMPTED = condition("DisruptionTarget", since=30, reason="PreemptionByScheduler", message="preempting to accommodate")


@pytest.mark.parametrize(
    ("seen", "category"),
    [
        pytest.param(pod(phase="Failed", reason="Evicted"), Category.EVICTED, id="evicted for lack of memory"),
        pytest.param(pod(phase="Failed", conditions=[PREEMPTED]), Category.PREEMPTED, id="preempted"),
        pytest.param(pod(phase="Failed", reason="Preempting"), Category.PREEMPTED, id="preempted by the kubelet"),
        pytest.param(pod(phase="Failed", reason="NodeShutdown"), Category.NODE_SHUTDOWN, id="node shut down"),
        pytest.param(pod(phase="Failed", reason="Terminated"), Category.NODE_SHUTDOWN, id="node shut down, newer"),
        pytest.param(pod(phase="Failed", reason="NodeLost"), Category.NODE_LOST, id="node lost"),
        pytest.param(
            pod(phase="Failed", conditions=[condition("DisruptionTarget", reason="DeletionByPodGC")]),
            Category.NODE_LOST,
            id="collected with its node",
        ),
        pytest.param(
            pod(phase="Failed", conditions=[condition("DisruptionTarget", reason="DeletionByTaintManager")]),
            Category.EVICTED,
            id="tainted node",
        ),
        pytest.param(pod(phase="Failed", reason="OutOfcpu"), Category.REJECTED, id="rejected"),
        pytest.param(pod(phase="Failed", reason="NodeAffinity"), Category.REJECTED, id="rejected by affinity"),
        pytest.param(pod(phase="Failed", reason="DeadlineExceeded"), Category.DEADLINE_EXCEEDED, id="deadline"),
        pytest.param(pod(phase="Failed"), Category.LOST, id="no word at all"),
        pytest.param(pod(phase="Failed", reason="Odd", statuses=[waiting()]), Category.UNKNOWN, id="unknown"),
        pytest.param(pod(statuses=[ended(code=127)]), Category.EXIT_CODE, id="a shell that found no program"),
        pytest.param(pod(statuses=[ended(code=143)]), Category.SIGNAL, id="terminated"),
        pytest.param(pod(phase="Failed", statuses=[ended("main", 1)], containers=[{"name": "main"}]), Category.CONFIG,
                     id="no such container"),
    ],
)  # fmt: skip
def test_every_end_has_a_stable_category(seen: Pod, category: Category) -> None:
    assert diagnosed(seen).category is category


def test_a_deleted_pod_and_a_failed_one_have_different_categories() -> None:
    diagnosis = diagnosed(pod(statuses=[running()]), gone=True)
    assert diagnosis.category is Category.DELETED
    assert diagnosis.summary == "pod jobs/p was deleted (Deleted) on node node-1 while it was running"


def test_a_pod_that_was_never_seen_has_a_diagnosis() -> None:
    assert diagnosed(None, gone=True).category is Category.DELETED


@pytest.mark.parametrize(
    ("end", "category", "hint"),
    [
        (ended(code=1), Category.EXIT_CODE, "see the program's output"),
        (ended(code=126), Category.EXIT_CODE, "the file is not executable"),
        (ended(code=127), Category.EXIT_CODE, "did not find the command"),
        (ended(code=255), Category.EXIT_CODE, "exited with -1"),
        (ended(code=130), Category.SIGNAL, "SIGINT"),
        (ended(code=132), Category.SIGNAL, "built for the node's architecture"),
        (ended(code=134), Category.SIGNAL, "SIGABRT: the program aborted itself"),
        (ended(code=135), Category.SIGNAL, "/dev/shm is full"),
        (ended(code=137), Category.SIGNAL, "compare its memory with the limit"),
        (ended(code=139), Category.SIGNAL, "a native library"),
        (ended(code=143), Category.SIGNAL, "something asked the program to stop"),
        (ended(code=160), Category.SIGNAL, "something outside or the program itself"),
        (ended(code=137, reason="OOMKilled"), Category.OOM_KILLED, "raise the memory limit"),
        (ended(code=128, reason="StartError", message='exec: "x": not found'), Category.COMMAND, "check cmds"),
    ],
)
def test_exit_codes_and_signals_are_explained(end: dict[str, Any], category: Category, hint: str) -> None:
    diagnosis = diagnosed(pod(statuses=[end]))
    assert diagnosis.category is category
    assert hint in diagnosis.text()
    assert (diagnosis.container, diagnosis.exit_code) == ("base", end["state"]["terminated"]["exitCode"])


def test_a_signal_has_its_name() -> None:
    assert diagnosed(pod(statuses=[ended(code=139)])).signal_name == "SIGSEGV"
    assert diagnosed(pod(statuses=[ended(code=128 + 63)])).signal_name == "signal 63"
    assert diagnosed(pod(statuses=[ended(code=3)])).signal_name == ""


def test_an_init_container_that_ran_out_of_memory_is_named() -> None:
    seen = pod(
        phase="Failed",
        init_containers=[{"name": "prepare"}],
        init_statuses=[ended("prepare", 137, reason="OOMKilled")],
        statuses=[waiting("base", "PodInitializing")],
    )
    diagnosis = diagnosed(seen)
    assert (diagnosis.category, diagnosis.container, diagnosis.exit_code) == (Category.INIT_FAILED, "prepare", 137)
    assert diagnosis.reason == "OOMKilled"
    assert "raise the memory limit of that container" in diagnosis.text()


@pytest.mark.parametrize(
    ("message", "summary", "hint"),
    [
        (
            "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims",
            "pod jobs/p was not scheduled in time (resources)",
            "lower the requests in container_resources, or add nodes; or raise schedule_timeout_seconds",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
            "pod jobs/p was not scheduled in time (affinity)",
            "correct node_selector or affinity",
        ),
        (
            "0/3 nodes are available: 1 Insufficient memory, 2 node(s) had untolerated taint {dedicated: gpu}.",
            "pod jobs/p was not scheduled in time (taint, resources)",
            "add a toleration to tolerations, or use nodes without the taint; lower the requests",
        ),
        (
            '0/3 nodes are available: persistentvolumeclaim "data" not found.',
            "pod jobs/p was not scheduled in time (volume)",
            "check that the claim exists",
        ),
        ("no nodes available to schedule pods", "pod jobs/p was not scheduled in time", "add nodes"),
    ],
)
def test_what_keeps_a_pod_off_the_nodes_has_a_hint_of_its_own(message: str, summary: str, hint: str) -> None:
    unscheduled = condition("PodScheduled", "False", reason="Unschedulable", message=message)
    seen = pod(phase="Pending", node=None)
    seen = replace(seen, status=replace(seen.status, conditions=[convert(unscheduled, PodCondition)]))
    diagnosis = diagnosed(seen, missed=Deadline.SCHEDULE)
    assert (diagnosis.category, diagnosis.reason) == (Category.UNSCHEDULABLE, "Unschedulable")
    assert diagnosis.summary == summary
    assert message[:60] in diagnosis.text()
    assert hint in diagnosis.text()


@pytest.mark.parametrize(
    ("event", "category", "said"),
    [
        (warning("Preempted", "Preempted by pod 1f2 on node node-1"), Category.PREEMPTED, "was preempted (Preempted)"),
        (warning("Evicted", "The node was low on resource: memory."), Category.EVICTED, "was evicted (Evicted)"),
        (
            warning("TaintManagerEviction", "Marking for deletion Pod jobs/p"),
            Category.EVICTED,
            "was evicted (TaintManagerEviction)",
        ),
        (warning("NodeNotReady", "Node is not ready"), Category.NODE_LOST, "was lost with its node (NodeNotReady)"),
        (warning("Killing", "Stopping container base"), Category.DELETED, "was deleted (Deleted)"),
    ],
)
def test_an_event_says_who_deleted_a_pod(event: Event, category: Category, said: str) -> None:
    diagnosis = diagnosed(pod(statuses=[running()]), gone=True, events=[event])
    assert diagnosis.category is category
    assert diagnosis.summary == f"pod jobs/p {said} on node node-1 while it was running"


def test_a_container_that_cannot_start_is_named() -> None:
    diagnosis = diagnosed(recorded("missing_configmap"))
    assert (diagnosis.container, diagnosis.reason) == ("base", "CreateContainerConfigError")


def test_a_failed_mount_is_found_in_the_events() -> None:
    events = [
        warning("BackOff", "something older", 5),
        warning("FailedMount", 'MountVolume.SetUp failed for volume "v": configmap "nope" not found', 8),
        warning("Other", "something newer", 20),
    ]
    diagnosis = diagnosed(recorded("missing_volume"), events=events, missed=Deadline.START)
    assert diagnosis.category is Category.VOLUME
    assert diagnosis.summary == "pod jobs/missingvol did not start in time on node node-1, its volumes are not ready"
    assert 'configmap "nope" not found' in diagnosis.text()


def test_the_text_of_a_slow_start_has_the_newest_warning() -> None:
    events = [warning("A", "older", 5), warning("B", "the network plugin is not ready", 8)]
    diagnosis = diagnosed(pod(phase="Pending", statuses=[waiting("base", "ContainerCreating")]), events=events)
    assert diagnosis.category is Category.START_TIMEOUT
    assert diagnosis.detail == "the network plugin is not ready"


def test_a_start_that_waits_for_an_init_container_names_it() -> None:
    seen = pod(
        phase="Pending",
        init_containers=[{"name": "prepare"}],
        init_statuses=[running("prepare")],
        statuses=[waiting("base", "PodInitializing")],
    )
    assert diagnosed(seen, missed=Deadline.START).summary == (
        "pod jobs/p did not start in time on node node-1, waiting for container 'prepare' (running)"
    )


def test_the_hint_for_a_throttling_registry_does_not_blame_the_image() -> None:
    seen = pod(
        phase="Pending",
        containers=[{"name": "base", "image": "repo/app"}],
        statuses=[waiting("base", "ImagePullBackOff", "429 Too Many Requests")],
    )
    assert diagnosed(seen).hint == "the registry may answer later: raise startup_timeout_seconds"


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ('pods "p" is forbidden: exceeded quota: small, requested: cpu=2, used: cpu=0, limited: cpu=1', Category.QUOTA),
        ('pods "p" is forbidden: failed quota: small: must specify cpu', Category.QUOTA),
        ('pods "p" is forbidden: violates PodSecurity "restricted:latest"', Category.FORBIDDEN),
    ],
)
def test_quota_and_pod_security_refusals_have_different_categories(message: str, category: Category) -> None:
    diagnosis = diagnose_refusal(message, name="p", namespace="jobs")
    assert diagnosis is not None
    assert diagnosis.category is category
    assert "jobs/p" in diagnosis.text()


def test_a_missing_right_has_no_diagnosis() -> None:
    assert diagnose_refusal('pods is forbidden: User "x" cannot create', name="p", namespace="jobs") is None


@given(pods, st.booleans(), st.none() | st.sampled_from(list(Deadline)))
def test_there_is_a_text_for_every_status(seen: Pod, gone: bool, missed: Deadline | None) -> None:
    text = diagnosed(seen, gone=gone, missed=missed, problem=start_problem(seen, assess(seen, "base"))).text()
    assert text
    assert "\n" not in text
    assert len(text.encode()) <= 1024


@given(st.text(max_size=3000))
def test_a_text_never_exceeds_its_limit(message: str) -> None:
    text = diagnosed(pod(statuses=[ended(code=1, message=message)])).text()
    assert len(text.encode()) <= 1024
    assert text.startswith("pod jobs/p: container 'base' failed with exit code 1 after 55 s on node node-1")
