"""From a pod as the API server has it to the manifest of the next one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kpo_async.json_types import Json
from kpo_async.pod.again import MemoryGrowth, avoiding, manifest_again, memory_of, numbered, with_more_memory
from tests.pod.samples import DATA, RECORDED


def recorded(name: str) -> Json:
    pod: Json = json.loads((DATA / f"{name}.json").read_text())
    return pod


def with_resources(resources: Any) -> Json:
    return {"spec": {"containers": [{"name": "side"}, {"name": "base", "resources": resources}]}}


@pytest.mark.parametrize("name", RECORDED)
def test_what_the_cluster_adds_to_a_pod_is_taken_out(name: str) -> None:
    pod = recorded(name)
    before = copy.deepcopy(pod)
    manifest = manifest_again(pod)
    assert pod == before
    assert manifest is not None
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(manifest["metadata"]) <= {"name", "namespace", "labels", "annotations", "ownerReferences"}
    assert "nodeName" not in manifest["spec"]
    assert "kube-api-access" not in json.dumps(manifest)


def test_what_the_user_gave_is_kept() -> None:
    pod = recorded("exit_3")
    pod["metadata"]["labels"] = {"mine": "1", "kpo-async/done": "true", "already_checked": "True"}
    pod["metadata"]["annotations"] = {"mine": "2", "kpo-async/log-cursors": "{}"}
    pod["spec"] |= {"volumes": [{"name": "mine", "emptyDir": {}}], "schedulingGates": [{"name": "queue"}]}
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "mine", "mountPath": "/mine"}]
    manifest = manifest_again(pod)
    assert manifest is not None
    assert (manifest["metadata"]["labels"], manifest["metadata"]["annotations"]) == ({"mine": "1"}, {"mine": "2"})
    assert manifest["spec"]["volumes"] == [{"name": "mine", "emptyDir": {}}]
    assert manifest["spec"]["containers"] == pod["spec"]["containers"]
    assert manifest["spec"]["schedulingGates"] == [{"name": "queue"}]


def test_a_pod_whose_containers_this_library_has_stopped_no_longer_shows_its_own_deadline() -> None:
    pod = recorded("exit_3")
    pod["spec"]["activeDeadlineSeconds"] = 1
    assert manifest_again(pod) is None


def test_an_attempt_is_numbered_in_a_label_and_its_disruptions_in_an_annotation() -> None:
    manifest = {"metadata": {"name": "a", "labels": {"mine": "1"}}, "spec": {}}
    metadata = numbered(manifest, "b", 3, 1)["metadata"]
    assert metadata["name"] == "b"
    assert metadata["labels"] == {"mine": "1", "kpo-async/attempt": "3"}
    assert metadata["annotations"] == {"kpo-async/disruptions": "1"}
    assert manifest["metadata"]["name"] == "a"


def test_each_node_that_failed_is_avoided_beside_the_users_own_preferences() -> None:
    mine = {"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}
    affinity = {
        "podAffinity": {},
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [mine],
            "requiredDuringSchedulingIgnoredDuringExecution": required,
        },
    }
    manifest = avoiding(avoiding(avoiding({"spec": {"affinity": affinity}}, "n1"), "n2"), "n1")
    preferred = [
        {
            "weight": 100,
            "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]}]},
        }
        for node in ("n1", "n2")
    ]
    assert manifest["spec"]["affinity"] == {
        "podAffinity": {},
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [mine, *preferred],
            "requiredDuringSchedulingIgnoredDuringExecution": required,
        },
    }
    assert avoiding({"spec": {}}, "") == {"spec": {}}


@pytest.mark.parametrize(
    ("resources", "growth", "more"),
    [
        pytest.param(
            {"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"memory": "512Mi"}},
            MemoryGrowth(2.0),
            {"limits": {"memory": "2048Mi", "cpu": "1"}, "requests": {"memory": "1024Mi"}},
            id="limit and request",
        ),
        pytest.param({"limits": {"memory": "100M"}}, MemoryGrowth(1.5), {"limits": {"memory": "144Mi"}}, id="decimal"),
        pytest.param(
            {"limits": {"memory": "10Gi"}}, MemoryGrowth(2.0, "16Gi"), {"limits": {"memory": "16Gi"}}, id="max"
        ),
        pytest.param({"limits": {"memory": "16384Mi"}}, MemoryGrowth(2.0, "16Gi"), None, id="at the max"),
        pytest.param({"limits": {"cpu": "1"}}, MemoryGrowth(2.0), None, id="no memory given"),
        pytest.param(None, MemoryGrowth(2.0), None, id="no resources"),
    ],
)
def test_memory_grows_by_its_factor_up_to_its_max(resources: Any, growth: MemoryGrowth, more: Any) -> None:
    before = with_resources(copy.deepcopy(resources))
    grown = with_more_memory(before, "base", growth)
    assert before == with_resources(resources)
    assert grown == (None if more is None else with_resources(more))


def test_the_memory_of_a_container_is_its_limit_or_else_its_request() -> None:
    assert memory_of(with_resources({"limits": {"memory": "2Gi"}, "requests": {"memory": "1Gi"}}), "base") == "2Gi"
    assert memory_of(with_resources({"limits": {"cpu": 1}, "requests": {"memory": "1Gi"}}), "base") == "1Gi"
    assert memory_of(with_resources({}), "base") == ""
