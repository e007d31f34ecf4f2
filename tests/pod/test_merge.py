"""How two manifests combine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.models import ModelDict
from kpo_async.pod.merge import merge_pods


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [], **spec}}


def merged_spec(base: dict[str, Any], over: dict[str, Any]) -> Any:
    return merge_pods(pod(**base), pod(**over))["spec"]


@pytest.mark.parametrize("nothing", [False, 0, "", [], {}, None], ids=repr)
def test_a_falsy_value_does_not_override(nothing: Any) -> None:
    assert merged_spec({"hostname": "template"}, {"hostname": nothing})["hostname"] == "template"


def test_where_both_are_falsy_the_arguments_value_stays() -> None:
    spec = merged_spec({"hostNetwork": None}, {"hostNetwork": False})
    assert spec["hostNetwork"] is False


def test_an_empty_model_replaces_a_templates_value() -> None:
    assert merged_spec({"affinity": {"podAffinity": {}}}, {"affinity": ModelDict()})["affinity"] == {}


@pytest.mark.parametrize(
    "key",
    ["tolerations", "imagePullSecrets", "hostAliases", "nodeSelector", "affinity", "securityContext", "dnsConfig"],
)
def test_most_fields_of_the_spec_are_taken_whole(key: str) -> None:
    kind = dict if key in ("nodeSelector", "affinity", "securityContext", "dnsConfig") else list
    base, over = ({"a": "1"}, {"b": "2"}) if kind is dict else ([{"a": "1"}], [{"b": "2"}])
    assert merged_spec({key: base}, {key: over})[key] == over


def test_labels_and_annotations_merge_by_key_and_lists_of_metadata_do_not() -> None:
    base = {"metadata": {"labels": {"a": "1", "b": "1"}, "annotations": {"x": "1"}, "finalizers": ["f1"]}}
    over = {"metadata": {"labels": {"b": "2"}, "annotations": {"y": "2"}, "finalizers": ["f2"]}}
    assert merge_pods(base, over)["metadata"] == {
        "labels": {"a": "1", "b": "2"},
        "annotations": {"x": "1", "y": "2"},
        "finalizers": ["f2"],
    }


def test_volumes_are_concatenated_with_their_duplicates() -> None:
    assert merged_spec({"volumes": [{"name": "a"}]}, {"volumes": [{"name": "a"}, {"name": "b"}]})["volumes"] == [
        {"name": "a"},
        {"name": "a"},
        {"name": "b"},
    ]


def test_containers_pair_by_position_whatever_their_names() -> None:
    base = [{"name": "side", "image": "i1", "tty": True}, {"name": "base", "image": "i2"}]
    spec = merged_spec({"containers": base}, {"containers": [{"name": "base", "image": ""}]})
    assert spec["containers"] == [{"name": "base", "image": "i1", "tty": True}, {"name": "base", "image": "i2"}]


@pytest.mark.parametrize("key", ["env", "envFrom", "ports", "volumeMounts", "volumeDevices"])
def test_lists_of_a_container_are_concatenated(key: str) -> None:
    spec = merged_spec({"containers": [{key: [{"x": 1}]}]}, {"containers": [{key: [{"x": 1}]}]})
    assert spec["containers"] == [{key: [{"x": 1}, {"x": 1}]}]


@pytest.mark.parametrize("key", ["command", "args"])
def test_commands_of_a_container_are_taken_whole(key: str) -> None:
    spec = merged_spec({"containers": [{key: ["a", "b"]}]}, {"containers": [{key: ["c"]}]})
    assert spec["containers"] == [{key: ["c"]}]


def test_init_containers_pair_by_name_and_new_ones_come_last() -> None:
    base = [{"name": "one", "env": [{"name": "A"}], "image": "i1"}, {"name": "two"}]
    over = [{"name": "new"}, {"name": "one", "env": [{"name": "B"}], "image": "i2"}]
    assert merged_spec({"initContainers": base}, {"initContainers": over})["initContainers"] == [
        {"name": "one", "env": [{"name": "A"}, {"name": "B"}], "image": "i2"},
        {"name": "two"},
        {"name": "new"},
    ]


def test_the_inputs_do_not_change() -> None:
    base = pod(containers=[{"name": "a", "env": [{"name": "A"}]}], volumes=[{"name": "v"}])
    over = pod(containers=[{"name": "b", "env": [{"name": "B"}]}], volumes=[{"name": "w"}])
    before = copy.deepcopy((base, over))
    merge_pods(base, over)
    assert (base, over) == before


def test_a_string_where_a_list_is_needed_is_refused() -> None:
    with pytest.raises(ManifestError, match="volumes is a str, a list is needed"):
        merged_spec({"volumes": "abc"}, {"volumes": [{"name": "v"}]})
