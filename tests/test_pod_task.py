"""What worker and triggerer store for each other, and that older and newer versions of it are read.

`data/pod-task-1.0.json` was recorded with the code of commit 21d2d47, the last one that wrote version 1.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kpo_async.exceptions import KpoError
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.xcom_sidecar import XComTransport
from kpo_async.pod_task import (
    RESULT_LIMIT,
    ClusterRef,
    OnFinishAction,
    OnKillAction,
    Outcome,
    OutcomeStatus,
    PodTask,
)
from kpo_async.triggers.pod import KubernetesPodTrigger

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("data").joinpath("pod-task-1.0.json").read_text())
ROWS: dict[str, Any] = {name: row["kwargs"]["pod_task"] for name, row in RECORDED["triggers"].items()}
OUTCOMES: dict[str, Any] = {name: event["outcome"] for name, event in RECORDED["events"].items()}


def through_json(value: PodTask | Outcome) -> Any:
    return json.loads(json.dumps(value.to_dict()))


@pytest.mark.parametrize("row", RECORDED["triggers"].values(), ids=list(RECORDED["triggers"]))
def test_a_trigger_row_of_version_1_0_is_read(row: dict[str, Any]) -> None:
    assert row["classpath"] == f"{KubernetesPodTrigger.__module__}.{KubernetesPodTrigger.__qualname__}"
    task = KubernetesPodTrigger(**row["kwargs"]).pod_task
    assert (task.name, task.namespace, task.uid) == ("task-x2k4", "jobs", "0b6e1a52-6d0c-4a7e-9d4e-6a3f1d2b7c55")
    assert task.deferred_at == 1760000000.25
    assert isinstance(task.on_finish_action, OnFinishAction)
    assert isinstance(task.on_kill_action, OnKillAction)
    assert isinstance(task.cluster, ClusterRef)


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ("defaults", "cluster", ClusterRef(conn_id="kubernetes_default")),
        ("defaults", "logs", LogPlan(containers=["base"], init_containers=[])),
        ("defaults", "end_from_trigger", False),
        ("defaults", "xcom", None),
        ("defaults", "deadline", None),
        ("ends in the triggerer", "end_from_trigger", True),
        ("ends in the triggerer", "skip_on_exit_code", [99, 100]),
        ("ends in the triggerer", "on_finish_action", OnFinishAction.DELETE_SUCCEEDED_POD),
        ("no logs", "logs", None),
        ("callbacks", "callbacks", ["tests_record_callbacks:Recorder"]),
        ("callbacks", "on_kill_action", OnKillAction.KEEP_POD),
        ("callbacks", "user_event", {"extra": {"nested": [1, None]}}),
        ("result by the native sidecar", "xcom", XComTransport.SIDECAR),
        ("result by the native sidecar", "multiple_outputs", True),
        ("result by exec", "xcom", XComTransport.EXEC),
        ("a kubeconfig", "cluster", ClusterRef(None, False, "/etc/kube/config", "blue")),
        ("in the cluster", "grace_period", 30),
        ("a deadline", "deadline", 1760003600.25),
    ],
)
def test_fields_of_version_1_0_keep_their_meaning(row: str, field: str, value: object) -> None:
    assert getattr(PodTask.from_dict(ROWS[row]), field) == value


def test_chosen_logs_of_version_1_0_keep_their_meaning() -> None:
    assert PodTask.from_dict(ROWS["chosen logs"]).logs == LogPlan(
        containers=["base", "other"], init_containers=True, prefix=False, formatter="tests_record_callbacks:shout"
    )


@pytest.mark.parametrize("stored", [*ROWS.values(), *OUTCOMES.values()], ids=[*ROWS, *OUTCOMES])
def test_version_1_0_reads_what_is_written_now(stored: dict[str, Any]) -> None:
    """A worker that was upgraded before its triggerer: 1.0 wants each nested name as it knows it, and `version` 1."""
    kind = PodTask if "uid" in stored else Outcome
    written = through_json(kind.from_dict(stored))
    assert {name: written[name] for name in stored} == stored


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_event_of_version_1_0_is_read(name: str) -> None:
    outcome = Outcome.from_dict(OUTCOMES[name])
    assert outcome.status is OutcomeStatus(OUTCOMES[name]["ending"])
    assert outcome.succeeded is name.startswith("succeeded")
    assert outcome.result_known is ("result" in name)


def test_cursors_of_version_1_0_are_read_from_an_event_and_from_a_pod() -> None:
    cursors = {"base": Cursor("2026-01-01T00:00:00Z", 3, "2026-01-01T00:00:01.5Z", 0)}
    assert Outcome.from_dict(OUTCOMES["succeeded with a result"]).cursors == cursors
    assert msgspec.json.decode(RECORDED["cursors_annotation"], type=dict[str, Cursor]) == cursors


def test_a_saved_verdict_of_version_1_0_is_read() -> None:
    verdict = Outcome.from_dict(RECORDED["pod_verdict"]["outcome"])
    assert (verdict.status, verdict.exit_code, verdict.logs_complete) == (OutcomeStatus.SUCCEEDED, 0, True)


@pytest.mark.parametrize(
    "value",
    [
        PodTask("pod", "ns", "uid", logs=None, xcom=XComTransport.EXEC, end_from_trigger=True),
        PodTask("pod", "ns", "uid", cluster=ClusterRef("a", True, "/b", "c"), logs=LogPlan(formatter="m:f")),
        Outcome(
            OutcomeStatus.FAILED, 3, result='{"a": 1}', result_known=True, cursors={"base": Cursor("t", 1, "u", 2)}
        ),
    ],
)
def test_what_is_written_is_read_back_through_json(value: PodTask | Outcome) -> None:
    assert type(value).from_dict(through_json(value)) == value


@pytest.mark.parametrize("stored", [ROWS["defaults"], OUTCOMES["failed"]], ids=["PodTask", "Outcome"])
def test_fields_of_a_newer_minor_version_are_ignored(stored: dict[str, Any]) -> None:
    kind = PodTask if "uid" in stored else Outcome
    newer = {**stored, "minor": 99, "invented_later": {"deep": [1]}}
    if "cluster" in newer:
        newer["cluster"] = {**newer["cluster"], "invented_later": 1}
        newer["logs"] = {**newer["logs"], "invented_later": 1}
    assert kind.from_dict(newer) == kind.from_dict(stored)


@pytest.mark.parametrize("version", [2, 0, None, "1"])
@pytest.mark.parametrize("kind", [PodTask, Outcome])
def test_another_major_version_is_refused_with_what_to_do(kind: type[PodTask | Outcome], version: object) -> None:
    with pytest.raises(KpoError) as refused:
        kind.from_dict({"version": version, "name": "pod"})
    assert str(refused.value) == (
        f"{kind.__name__} version {version!r} cannot be read here (this host speaks version 1): "
        "install the same kpo-async on workers and triggerers, then clear the task"
    )


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        pytest.param({"version": 1, "name": "pod"}, "PodTask cannot be read here: .*missing.*namespace", id="missing"),
        pytest.param({**ROWS["defaults"], "on_kill_action": "burn"}, "Invalid enum value 'burn'", id="an unknown word"),
        pytest.param({**ROWS["defaults"], "deferred_at": "now"}, r"got `str` - at `\$.deferred_at`", id="a wrong type"),
    ],
)
def test_a_row_that_is_not_a_pod_task_is_refused_with_where_and_what_to_do(stored: dict[str, Any], says: str) -> None:
    with pytest.raises(KpoError, match=says) as refused:
        PodTask.from_dict(stored)
    assert str(refused.value).endswith("install the same kpo-async on workers and triggerers, then clear the task")


def test_what_the_user_adds_to_the_event_is_left_for_airflow_to_serialize() -> None:
    given = {"object": object(), "tuple": (1, 2)}
    assert PodTask("pod", "ns", "uid", user_event=given).to_dict()["user_event"] == given


def test_a_large_result_is_not_stored_but_read_again() -> None:
    large = Outcome(OutcomeStatus.SUCCEEDED, result="x" * (RESULT_LIMIT + 1), result_known=True)
    assert (large.storable().result, large.storable().result_known) == (None, False)
    small = Outcome(OutcomeStatus.SUCCEEDED, result="x" * RESULT_LIMIT, result_known=True)
    assert small.storable() is small
