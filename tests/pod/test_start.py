"""What keeps a pod from starting, which of it heals by itself, and when the rest is final."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from kpo_async.api_types import Pod
from kpo_async.pod.start import GRACE, Deadline, StartDeadline, StartProblem, start_deadline, start_problem
from kpo_async.pod.status import assess
from tests.pod.samples import at, condition, ended, pod, recorded, running, waiting
from tests.pod.test_status import moment, pods

HALF_A_MINUTE = 30


def problem_of(seen: Pod) -> StartProblem | None:
    return start_problem(seen, assess(seen, "base"))


def fatal_after(reason: str, message: str, *, image: str = "repo/app:1") -> datetime | None:
    """When this is final for a pod that was scheduled at second 1; the pod is known to have a problem."""
    seen = pod(
        phase="Pending", containers=[{"name": "base", "image": image}], statuses=[waiting("base", reason, message)]
    )
    problem = problem_of(seen)
    assert problem is not None
    assert (problem.container, problem.reason, problem.message) == ("base", reason, message)
    return problem.fatal_at


NEVER_PULLED = [
    'failed to pull and unpack image "docker.io/repo/app:1": failed to resolve reference "docker.io/repo/app:1": '
    "docker.io/repo/app:1: not found",
    "rpc error: code = NotFound desc = failed to pull and unpack image: manifest unknown: manifest unknown",
    "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: "
    "authorization failed",
    "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://r.io/token: "
    "401 Unauthorized",
    "failed to fetch anonymous token: unexpected status from GET request to https://r.io/token: 403 Forbidden",
    "no match for platform in manifest: not found",
    "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    "http: server gave HTTP response to HTTPS client",
    "lookup invalid.example on 10.0.0.10:53: no such host",
]
PULLED_LATER = [
    "httpReadSeeker: failed open: unexpected status code https://r.io/v2/blobs/x: 429 Too Many Requests",
    "toomanyrequests: You have reached your pull rate limit.",
    "unexpected status from HEAD request to https://r.io/v2/app/manifests/1: 503 Service Unavailable",
    "unexpected status from HEAD request to https://r.io/v2/app: 500 Internal Server Error - token not found",
    "dial tcp 10.0.0.1:443: i/o timeout",
    "dial tcp 10.0.0.1:443: connect: connection refused",
    "read tcp 10.0.0.1:443: read: connection reset by peer",
    "net/http: TLS handshake timeout",
    "context deadline exceeded",
    "unexpected EOF",
    "502 Bad Gateway",
    "lookup r.io: Temporary failure in name resolution",
    "lookup r.io on 10.0.0.10:53: server misbehaving",
    "pull QPS exceeded",
    "write /var/lib/containerd/x: no space left on device",
    # Before Kubernetes 1.31 the back-off hid the cause.
    'Back-off pulling image "repo/app:1"',
]


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize("message", NEVER_PULLED)
def test_a_refused_pull_is_final_within_half_a_minute(reason: str, message: str) -> None:
    fatal_at = fatal_after(reason, message)
    assert fatal_at is not None
    assert moment(1) < fatal_at < moment(HALF_A_MINUTE)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
@pytest.mark.parametrize("message", PULLED_LATER)
def test_a_pull_that_may_work_later_is_never_final(reason: str, message: str) -> None:
    assert fatal_after(reason, message) is None


@pytest.mark.parametrize(
    ("image", "message", "final"),
    [
        pytest.param("repo/timeout:1", "docker.io/repo/timeout:1: not found", True, id="timeout"),
        pytest.param("repo/not found", 'image "repo/not found": i/o timeout', False, id="not found"),
        pytest.param("repo/app:503", "unexpected status from HEAD: 401 Unauthorized, repo/app:503", True, id="503"),
    ],
)
def test_words_in_an_images_name_are_ignored(image: str, message: str, final: bool) -> None:
    assert (fatal_after("ErrImagePull", message, image=image) is not None) is final


@pytest.mark.parametrize(
    ("reason", "message", "seconds"),
    [
        ("InvalidImageName", "couldn't parse image name", 0),
        ("ErrImageNeverPull", "", 0),
        ("CreateContainerConfigError", 'configmap "x" not found', 10),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", 10),
        ("CreateContainerError", "no command specified", 20),
        ("RunContainerError", "", 20),
        ("CrashLoopBackOff", "back-off 10s restarting failed container", 25),
    ],
)
def test_other_causes_have_a_grace_each(reason: str, message: str, seconds: int) -> None:
    assert fatal_after(reason, message) == moment(1 + seconds)


def test_all_graces_end_within_half_a_minute() -> None:
    assert max(GRACE.values()).total_seconds() < HALF_A_MINUTE


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("CreateContainerConfigError", "failed to sync configmap cache: timed out waiting for the condition"),
        ("CreateContainerError", "context deadline exceeded"),
    ],
)
def test_a_busy_node_is_never_final(reason: str, message: str) -> None:
    assert fatal_after(reason, message) is None


@pytest.mark.parametrize("reason", [None, "", "ContainerCreating", "PodInitializing", "SomethingNew"])
def test_ordinary_waiting_is_not_a_problem(reason: str | None) -> None:
    assert problem_of(pod(phase="Pending", statuses=[waiting("base", reason)])) is None


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        pytest.param(pod(statuses=[running()]), "running", id="running"),
        pytest.param(pod(statuses=[ended()]), "ended", id="ended"),
        pytest.param(
            pod(statuses=[running(), waiting("mesh", "ErrImagePull", "not found")]), "running", id="companion"
        ),
    ],
)
def test_a_base_container_that_has_run_has_no_problem_starting(seen: Any, what: str) -> None:
    assert problem_of(seen) is None


def test_an_init_container_that_cannot_start_is_found() -> None:
    seen = pod(
        phase="Pending",
        init_containers=[{"name": "prepare", "image": "nothing"}],
        init_statuses=[waiting("prepare", "ErrImagePull", "manifest unknown")],
        statuses=[waiting("base", "PodInitializing")],
    )
    problem = problem_of(seen)
    assert problem is not None
    assert (problem.container, problem.image) == ("prepare", "nothing")


def test_a_containers_grace_begins_when_the_containers_before_it_are_done() -> None:
    seen = pod(
        phase="Pending",
        init_containers=[{"name": "prepare"}, {"name": "mesh", "restartPolicy": "Always"}],
        init_statuses=[ended("prepare", finished=40), running("mesh", since=50)],
        statuses=[waiting("base", "CreateContainerConfigError", 'secret "x" not found')],
    )
    problem = problem_of(seen)
    assert problem is not None
    assert problem.fatal_at == moment(60)


def test_a_final_problem_comes_before_one_that_may_heal() -> None:
    seen = pod(
        phase="Pending",
        containers=[{"name": "mesh"}, {"name": "base"}],
        statuses=[waiting("mesh", "ErrImagePull", "i/o timeout"), waiting("base", "InvalidImageName", "bad")],
    )
    problem = problem_of(seen)
    assert problem is not None
    assert problem.container == "base"


def test_a_base_container_that_the_pod_does_not_have_is_final_at_once() -> None:
    problem = problem_of(pod(phase="Pending", containers=[{"name": "main"}, {"name": "mesh"}]))
    assert problem is not None
    assert problem.fatal_at == moment(0)
    assert problem.message == "the pod has no container 'base'; it has 'main', 'mesh'"


@pytest.mark.parametrize("name", ["image_unknown_host", "image_invalid_name", "missing_configmap"])
def test_recorded_problems_are_final_within_half_a_minute(name: str) -> None:
    problem = problem_of(recorded(name))
    assert problem is not None
    assert problem.fatal_at is not None


@pytest.mark.parametrize("name", ["missing_volume", "scheduling_gated", "unschedulable", "succeeded"])
def test_a_wait_that_only_a_deadline_ends_is_not_a_problem(name: str) -> None:
    assert problem_of(recorded(name)) is None


UNSCHEDULED: dict[str, Any] = {"phase": "Pending", "node": None}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(pod(**UNSCHEDULED), StartDeadline(Deadline.SCHEDULE, moment(100)), id="from created to scheduled"),
        pytest.param(pod(phase="Pending"), StartDeadline(Deadline.START, moment(21)), id="from scheduled to started"),
        pytest.param(pod(statuses=[running()]), None, id="started"),
        pytest.param(pod(statuses=[ended()]), None, id="ended"),
        pytest.param(recorded("scheduling_gated"), None, id="held back by a gate"),
    ],
)
def test_one_deadline_runs_at_a_time(seen: Any, expected: StartDeadline | None) -> None:
    assert start_deadline(assess(seen, "base"), schedule_timeout=100, startup_timeout=20) == expected


def test_time_behind_a_gate_does_not_count() -> None:
    state = assess(pod(**UNSCHEDULED), "base")
    deadline = start_deadline(state, schedule_timeout=100, startup_timeout=20, ungated_at=moment(500))
    assert deadline == StartDeadline(Deadline.SCHEDULE, moment(600))


@given(pods)
def test_every_status_has_an_answer(seen: Any) -> None:
    problem = problem_of(seen)
    state = assess(seen, "base")
    deadline = start_deadline(state, schedule_timeout=1, startup_timeout=1)
    if state.verdict.ended:
        assert problem is None
        assert deadline is None


def test_samples_are_of_one_day() -> None:
    assert assess(pod(conditions=[condition("Ready")], creationTimestamp=at(3)), "base").created_at == moment(3)
