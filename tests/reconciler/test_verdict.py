"""What becomes of a pod, by its state and that of the try that owns it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.status import PodState, Verdict
from kpo_async.pod_task import OnFinishAction, OnKillAction
from kpo_async.reconciler.verdict import ADOPTION_TIMEOUT, Action, Try, TryStatus, decide

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=timezone.utc)
RUNS = PodState(Verdict.RUNNING, "base")
PENDS = PodState(Verdict.PENDING, "base")
SUCCEEDED = PodState(Verdict.SUCCEEDED, "base", exit_code=0)
FAILED = PodState(Verdict.FAILED, "base", exit_code=1)
LOST = PodState(Verdict.LOST, "base")
OVER = [TryStatus.ENDED, TryStatus.CLEARED, TryStatus.GONE]


def record(**parameters: object) -> TaskRecord:
    return TaskRecord("dag", "task", "run", 1, **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "deferred", "restarting", "up_for_retry", None])
@pytest.mark.parametrize("pod", [RUNS, PENDS, SUCCEEDED, FAILED, LOST])
def test_a_try_that_is_alive_keeps_its_pod(state: str | None, pod: PodState) -> None:
    decision = decide(record(), pod, Try(TryStatus.ALIVE, state), NOW)
    assert decision.action is Action.LEAVE


@pytest.mark.parametrize("status", OVER)
@pytest.mark.parametrize("pod", [RUNS, PENDS])
@pytest.mark.parametrize(("on_kill", "action"), [("delete_pod", Action.DELETE), ("keep_pod", Action.MARK_DONE)])
def test_a_pod_that_runs_after_its_try_is_treated_as_killed(
    status: TryStatus, pod: PodState, on_kill: str, action: Action
) -> None:
    killed = record(on_kill_action=OnKillAction(on_kill), on_finish_action=OnFinishAction.KEEP_POD)
    assert decide(killed, pod, Try(status, "failed"), NOW).action is action


@pytest.mark.parametrize("status", [*OVER, TryStatus.RETRIED])
@pytest.mark.parametrize(
    ("on_finish", "pod", "action"),
    [
        ("delete_pod", SUCCEEDED, Action.DELETE),
        ("delete_pod", FAILED, Action.DELETE),
        ("delete_pod", LOST, Action.DELETE),
        ("delete_succeeded_pod", SUCCEEDED, Action.DELETE),
        ("delete_succeeded_pod", FAILED, Action.MARK_DONE),
        ("delete_active_pod", SUCCEEDED, Action.MARK_DONE),
        ("delete_active_pod", FAILED, Action.MARK_DONE),
        ("keep_pod", SUCCEEDED, Action.MARK_DONE),
        ("keep_pod", FAILED, Action.MARK_DONE),
    ],
)
def test_a_pod_that_ended_is_dealt_with_by_its_on_finish_action(
    status: TryStatus, on_finish: str, pod: PodState, action: Action
) -> None:
    ended = record(on_finish_action=OnFinishAction(on_finish), on_kill_action=OnKillAction.KEEP_POD)
    assert decide(ended, pod, Try(status, "failed"), NOW).action is action


LONG_AGO = NOW - ADOPTION_TIMEOUT - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("state", "started_at", "action"),
    [
        ("up_for_retry", LONG_AGO, Action.LEAVE),
        ("scheduled", LONG_AGO, Action.LEAVE),
        ("queued", LONG_AGO, Action.LEAVE),
        ("restarting", LONG_AGO, Action.LEAVE),
        ("running", NOW - timedelta(seconds=5), Action.LEAVE),
        ("running", None, Action.LEAVE),
        ("running", LONG_AGO, Action.DELETE),
        ("deferred", NOW - timedelta(seconds=5), Action.DELETE),
    ],
)
def test_a_retry_has_its_time_to_adopt_the_pod(state: str, started_at: datetime | None, action: Action) -> None:
    decision = decide(record(), RUNS, Try(TryStatus.RETRIED, state, started_at), NOW)
    assert decision.action is action


@pytest.mark.parametrize("status", list(TryStatus))
def test_a_pod_without_a_record_is_left_alone(status: TryStatus) -> None:
    assert decide(None, RUNS, Try(status), NOW).action is Action.LEAVE


def test_a_pod_that_is_being_deleted_is_left_alone() -> None:
    terminating = PodState(Verdict.RUNNING, "base", terminating=True)
    assert decide(record(), terminating, Try(TryStatus.GONE), NOW).action is Action.LEAVE
