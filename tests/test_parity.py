"""Random parameters for the incumbent and kpo_async give equal manifests, up to `DIFFERENCES`, and equal refusals.

The default run is small and always the same. KPO_PARITY_EXAMPLES=20000 tries more, with new examples each time.
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpo_async.exceptions import ManifestError
from kpo_async.models import plain
from kpo_async.pod import names, xcom_sidecar
from kpo_async.pod.build import ConnectionDefaults
from kpo_async.pod.names import TaskIdentity
from scripts.differences import DIFFERENCES

incumbent = pytest.importorskip("tests.incumbent", reason="the incumbent is not installed", exc_type=ImportError)
sets = pytest.importorskip("tests.keyword_sets", reason="the incumbent is not installed", exc_type=ImportError)

EXAMPLES = int(os.environ.get("KPO_PARITY_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TASK = TaskIdentity("0190c6f2-7a5f-7c6e", "my.dag", "group.täsk", "manual__2026-01-02T03:04:05+00:00", 2, 7)
CONNECTION = ConnectionDefaults(
    namespace="from-connection", xcom_sidecar_image="img:1", xcom_sidecar_resources={"limits": {"cpu": "2"}}
)
QUIET = logging.getLogger("tests.quiet")
QUIET.setLevel(logging.CRITICAL)  # random templates make for many warnings

# ---------------------------------------------------------------------------------------------- the differences, undone

Manifest = dict[str, Any]
Pair = tuple[dict[str, Any], dict[str, Any]]


def undo_repairs(ours: Manifest, theirs: Manifest) -> None:
    """Where the incumbent's name is illegal, that of kpo_async only has to be legal; a legal one is compared."""
    assert names.is_pod_name(ours["metadata"]["name"])
    if not names.is_pod_name(theirs["metadata"]["name"]):
        ours["metadata"]["name"] = theirs["metadata"]["name"]


def undo_suffix(ours: Manifest, theirs: Manifest) -> None:
    if ours["metadata"]["name"] != theirs["metadata"]["name"]:
        for manifest in (ours, theirs):
            manifest["metadata"]["name"] = manifest["metadata"]["name"][: -names.SUFFIX_LENGTH]


def undo_marks(ours: Manifest, theirs: Manifest) -> None:
    ours["metadata"]["labels"].pop(names.MANAGED_LABEL, None)
    ours["metadata"]["annotations"].pop(names.OWNER_ANNOTATION, None)


def undo_sidecar(ours: Manifest, theirs: Manifest) -> None:
    """Take the sidecar, its volume and its mount out of both: other tests show that they work."""
    for manifest in (ours, theirs):
        spec = manifest["spec"]
        for key in ("containers", "initContainers"):
            spec[key] = [item for item in spec.get(key, []) if item.get("name") != xcom_sidecar.CONTAINER]
        spec["volumes"] = [item for item in spec["volumes"] if item.get("name") != xcom_sidecar.VOLUME]
        for container in spec["containers"]:
            mounts = container.pop("volumeMounts", None) or []
            container["volumeMounts"] = [item for item in mounts if item.get("name") != xcom_sidecar.VOLUME]


def undo_volume_names(ours: Manifest, theirs: Manifest) -> None:
    for manifest in (ours, theirs):
        spec = manifest["spec"]
        for item in (*spec["volumes"], *spec["containers"][0]["volumeMounts"]):
            if str(item.get("name")).startswith("secretvol"):
                item["name"] = "secretvol"


def nothing_to_undo(ours: Manifest, theirs: Manifest) -> None:
    """A difference in what is accepted, not in the manifest."""


UNDO: Mapping[str, Callable[[Manifest, Manifest], None]] = {
    "illegal names": undo_repairs,
    "name suffix": undo_suffix,
    "own marks": undo_marks,
    "XCom sidecar": undo_sidecar,
    "Secret volumes": undo_volume_names,
    "forms": nothing_to_undo,
    "misspelt fields": nothing_to_undo,
    "impossible values": nothing_to_undo,
}


def test_every_difference_is_named_in_the_table_and_every_row_is_used() -> None:
    assert set(UNDO) == {difference.name for difference in DIFFERENCES}


# ------------------------------------------------------------------------------------------------------- the comparison


@pytest.fixture(autouse=True, scope="module")
def _connection() -> Iterator[None]:
    """Define `CONNECTION` for the operator."""
    extra = {
        "namespace": CONNECTION.namespace,
        "xcom_sidecar_container_image": CONNECTION.xcom_sidecar_image,
        "xcom_sidecar_container_resources": json.dumps(CONNECTION.xcom_sidecar_resources),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        yield


def build_ours(parameters: Mapping[str, Any], task: TaskIdentity | None, in_cluster: bool = False) -> Manifest:
    from kpo_async.operators.pod import KubernetesPodOperator

    operator = KubernetesPodOperator(**parameters, in_cluster=in_cluster)
    operator._cached_logger = QUIET
    operator.render_template_fields(incumbent.context(task))
    return operator.build_pod_request_obj(incumbent.context(task) if task else None)


@PROFILE
@given(sets.keyword_sets(), st.sampled_from([TASK, None]), st.booleans())
def test_random_keyword_sets_give_the_incumbents_manifest(pair: Pair, task: TaskIdentity | None, inside: bool) -> None:
    theirs, ours = pair
    before = copy.deepcopy(plain(ours))
    expected = incumbent.build(theirs, task, CONNECTION, inside)
    found = build_ours(ours, task, inside)
    for undo in UNDO.values():
        undo(found, expected)
    assert found == expected
    assert plain(ours) == before, "the parameters were changed"


# ---------------------------------------------------------------------------------------------------------- raising

FAULTS: Mapping[str, Mapping[str, Any]] = {
    "labels are a list": {"labels": ["a"]},
    "env_vars are a string": {"env_vars": "A=1"},
    "env_vars are a number": {"env_vars": 3},
    "on_finish_action is unknown": {"on_finish_action": "explode"},
    "on_kill_action is unknown": {"on_kill_action": "explode"},
    "name has a space": {"name": "a b"},
    "name is too long": {"name": "x" * 221},
    "name has two dots": {"name": "a..b"},
    "name is no string": {"name": 5},
    "name is empty": {"name": ""},
    "volumes are strings": {"volumes": ["a"]},
    "volume_mounts are strings": {"volume_mounts": ["/a"]},
    "ports are numbers": {"ports": [80]},
    "pod_runtime_info_envs are strings": {"pod_runtime_info_envs": ["a"]},
    "affinity is a string": {"affinity": "here"},
    "tolerations are strings": {"tolerations": ["all"]},
    "tolerations are one dict": {"tolerations": {"key": "a"}},
    "configmaps are no list": {"configmaps": 5},
    "secrets are strings": {"secrets": ["s"]},
    "full_pod_spec is a PodSpec": {"full_pod_spec": incumbent.model({"containers": []}, "PodSpec")},
    "a template's container has no name": {"pod_template_dict": {"spec": {"containers": [{"image": "x"}]}}},
    "a template's spec has no containers": {"pod_template_dict": {"spec": {"hostNetwork": True}}},
    "a template's number is none": {
        "pod_template_dict": {"spec": {"containers": [], "activeDeadlineSeconds": "soon"}},
    },
    "a template's labels are a list": {"pod_template_dict": {"metadata": {"labels": ["a"]}}},
}


def mentions(error: BaseException, parameter: str) -> bool:
    """Whether the message names the parameter, or the type of its values (`OnFinishAction`)."""
    return parameter in str(error) or parameter.replace("_", "") in str(error).lower()


@settings(PROFILE, max_examples=EXAMPLES or 40)
@given(sets.keyword_sets(), st.sampled_from(sorted(FAULTS)))
def test_what_the_incumbent_refuses_is_refused(pair: Pair, fault: str) -> None:
    theirs, ours = ({**parameters, **FAULTS[fault]} for parameters in pair)
    with pytest.raises(incumbent.RAISES):
        incumbent.build(theirs, TASK, CONNECTION, False)
    with pytest.raises((ManifestError, ValueError)) as caught:
        build_ours(ours, TASK)
    assert mentions(caught.value, next(iter(FAULTS[fault])))


IMPOSSIBLE: Mapping[str, Mapping[str, Any]] = {
    "a label is a number": {"labels": {"a": 1}},
    "a label is illegal": {"labels": {"a": "-x"}},
    "a label's name is illegal": {"labels": {"-a": "x"}},
    "an annotation is a number": {"annotations": {"a": 1}},
    "a node selector is a number": {"node_selector": {"a": 1}},
    "an environment variable is a number": {"env_vars": {"A": 1}},
    "an environment variable has no name": {"env_vars": [{"name": "", "value": "x"}]},
    "an environment variable is a string": {"env_vars": ["A=1"]},
    "an argument is a number": {"arguments": [1]},
    "cmds are a string": {"cmds": "echo hi"},
    "configmaps are a string": {"configmaps": "one"},
    "image_pull_policy is unknown": {"image_pull_policy": "Sometimes"},
    "dnspolicy is unknown": {"dnspolicy": "Mine"},
    "termination_message_policy is unknown": {"termination_message_policy": "Loudly"},
    "a template's list is a string": {"pod_template_dict": {"spec": {"containers": [{"name": "a", "command": "sh"}]}}},
    "a template's object is a string": {"pod_template_dict": {"spec": {"containers": [], "securityContext": "x"}}},
}


@pytest.mark.parametrize("parameters", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_the_server_is_certain_to_refuse_is_refused_at_parse_only_by_kpo_async(
    parameters: Mapping[str, Any],
) -> None:
    assert incumbent.build({"task_id": "t", **parameters}, TASK, CONNECTION, False)
    with pytest.raises(ManifestError) as caught:
        build_ours({"task_id": "t", **parameters}, TASK)
    assert mentions(caught.value, next(iter(parameters)))


FORMS: Mapping[str, Mapping[str, Any]] = {
    "dicts for volumes": {"volumes": [{"name": "v", "emptyDir": {}}]},
    "dicts for volume_mounts": {"volume_mounts": [{"name": "v", "mountPath": "/v"}]},
    "dicts for ports": {"ports": [{"containerPort": 80}]},
    "dicts for pod_runtime_info_envs": {"pod_runtime_info_envs": [{"name": "N"}]},
    "a dict for full_pod_spec": {"full_pod_spec": {"spec": {"containers": [{"name": "base"}]}}},
    "dicts for init_containers beside a template's": {
        "init_containers": [{"name": "i"}],
        "pod_template_dict": {"spec": {"containers": [], "initContainers": [{"name": "j"}]}},
    },
    "a tuple for init_containers beside a template's": {
        "init_containers": (incumbent.model({"name": "i"}, "Container"),),
        "pod_template_dict": {"spec": {"containers": [], "initContainers": [{"name": "j"}]}},
    },
}


@pytest.mark.parametrize("parameters", FORMS.values(), ids=FORMS)
def test_forms_that_only_kpo_async_accepts(parameters: Mapping[str, Any]) -> None:
    with pytest.raises(incumbent.RAISES):
        incumbent.build({"task_id": "t", **parameters}, TASK, CONNECTION, False)
    assert build_ours({"task_id": "t", **parameters}, TASK)
