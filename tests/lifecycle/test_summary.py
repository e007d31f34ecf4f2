"""A pod becomes a row: its task, its phase, what it waits for, what it was given. Nothing of its environment."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.lifecycle.summary import PodSummary, TaskKey, summarize
from kpo_async.pod.names import ATTEMPT_LABEL, TASK_ANNOTATION
from kpo_async.pod.status import Verdict
from tests.pod.samples import DATA, RECORDED, at, ended, pod, recorded, running, waiting
from tests.pod.test_status import pods

RECORD = TaskRecord("etl", "load", "manual__1", 2, map_index=3)


def owned(**fields: Any) -> Pod:
    return pod(annotations={TASK_ANNOTATION: RECORD.to_json()}, **fields)


def requests(containers: list[dict[str, Any]], init_containers: list[dict[str, Any]] | None = None) -> dict[str, str]:
    return summarize(pod(containers=containers, init_containers=init_containers)).requests


def container(name: str, **amounts: str) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": amounts}}


def test_a_row_names_the_task_the_node_and_the_times() -> None:
    row = summarize(owned(statuses=[running("base")], uid="u-1", labels={ATTEMPT_LABEL: "2"}))
    assert row.task == TaskKey("etl", "load", "manual__1", 3, 2)
    assert (row.uid, row.namespace, row.name, row.attempt) == ("u-1", "jobs", "p", 2)
    assert (row.phase, row.verdict, row.node, row.terminating) == ("Running", Verdict.RUNNING, "node-1", False)
    assert row.created_at is not None
    assert row.created_at.strftime("%Y-%m-%dT%H:%M:%SZ") == at(0)
    assert row.explanation == ""
    assert row.containers == ["base"]


@pytest.mark.parametrize("annotation", ["", "{}", "null", "[]", "not JSON", '{"dag_id": 1}'])
def test_a_pod_whose_annotation_cannot_be_read_has_no_task(annotation: str) -> None:
    assert summarize(pod(annotations={TASK_ANNOTATION: annotation})).task is None


def test_a_pending_pod_says_what_it_waits_for_without_its_own_name() -> None:
    row = summarize(recorded("unschedulable"))
    assert row.explanation.startswith("is not scheduled yet")
    assert "nodes are available" in row.explanation
    assert row.category == "Unschedulable"


def test_an_image_that_cannot_be_pulled_is_an_explanation() -> None:
    status = waiting("base", "ImagePullBackOff", "Back-off pulling image")
    row = summarize(owned(phase="Pending", statuses=[status], containers=[{"name": "base", "image": "nope"}]))
    assert row.category == "ImagePull"
    assert row.explanation.startswith("image 'nope' of container 'base' cannot be pulled")
    assert row.containers == []


def test_a_failed_pod_says_why_and_a_succeeded_one_nothing() -> None:
    assert summarize(recorded("exit_3")).explanation.startswith("container 'base' failed with exit code 3")
    assert summarize(recorded("succeeded")).explanation == ""


def test_the_message_that_a_program_left_is_not_in_a_row() -> None:
    row = summarize(owned(phase="Failed", statuses=[ended("base", 3, message="token s3cr3t")]))
    assert row.explanation.startswith("container 'base' failed with exit code 3")
    assert "s3cr3t" not in row.explanation


def test_a_pod_that_outlives_its_base_container_names_what_still_runs() -> None:
    both = [{"name": "base"}, {"name": "proxy"}]
    row = summarize(owned(containers=both, statuses=[ended("base", 0), running("proxy")]))
    assert row.explanation == "succeeded; 'proxy' still running"


def test_requests_of_containers_that_run_together_are_added() -> None:
    found = requests([container("base", cpu="1500m", memory="1Gi"), container("proxy", cpu="0.5", memory="64Mi")])
    assert found == {"cpu": "2", "memory": "1088Mi"}


def test_an_init_container_counts_only_where_it_needs_more_than_what_runs_later() -> None:
    sidecar = {**container("proxy", cpu="100m"), "restartPolicy": "Always"}
    found = requests([container("base", cpu="200m")], [sidecar, container("prepare", cpu="1"), container("small")])
    assert found == {"cpu": "1100m"}


def test_a_quantity_that_is_none_is_left_out() -> None:
    assert requests([container("base", cpu="many", **{"nvidia.com/gpu": "2"})]) == {"nvidia.com/gpu": "2"}


@pytest.mark.parametrize("name", RECORDED)
def test_no_environment_variable_and_no_label_is_in_a_row(name: str) -> None:
    manifest = json.loads((DATA / f"{name}.json").read_text())
    for spec in manifest["spec"]["containers"]:
        spec["env"] = [{"name": "PASSWORD", "value": "s3cr3t"}]
        spec["args"] = ["s3cr3t"]
    manifest["metadata"]["labels"] = {"note": "s3cr3t"}
    row = msgspec.json.encode(summarize(pod_from_dict(manifest))).decode()
    assert "s3cr3t" not in row
    assert "PASSWORD" not in row


@given(pods)
def test_every_pod_has_a_row(seen: Pod) -> None:
    row = summarize(seen)
    assert msgspec.json.decode(msgspec.json.encode(row), type=PodSummary) == row
