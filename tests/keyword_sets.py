"""Hypothesis strategies: random parameters, in the incumbent's form and in any form that kpo_async takes.

Manifests are drawn from the table of types (`pod/schema.py`), so every field of a pod comes up some time, with the
falsy values that decide who wins in a merge. Templates are drawn as people write YAML: `1` for "1".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from kpo_async.pod.schema import fields
from kpo_async.secret import Secret
from tests import incumbent
from tests.manifests import AS_IN_YAML, JINJA, TYPED, manifests

Manifest = dict[str, Any]


@st.composite
def templates(draw: st.DrawFn) -> Manifest:
    """A pod as people write it in YAML: containers named base, x, ..., with the lists that merge."""
    pod: Manifest = draw(manifests("Pod", AS_IN_YAML))
    if draw(st.booleans()):
        pod["spec"] = draw(pod_specs(AS_IN_YAML))
    return pod


@st.composite
def pod_specs(draw: st.DrawFn, scalars: Mapping[str, st.SearchStrategy[Any]] = TYPED) -> Manifest:
    spec: Manifest = draw(manifests("PodSpec", scalars))
    # The base container first: in another place the incumbent makes a second one, which Kubernetes refuses.
    first, second = containers(scalars), containers(scalars, ("b", "c"))
    spec["containers"] = draw(st.one_of(st.just([]), st.tuples(first).map(list), st.tuples(first, second).map(list)))
    if draw(st.booleans()):
        spec["initContainers"] = draw(st.lists(containers(scalars), max_size=2))
    if draw(st.booleans()):
        spec["volumes"] = draw(manifests("[Volume]", scalars))
    return spec


@st.composite
def containers(
    draw: st.DrawFn,
    scalars: Mapping[str, st.SearchStrategy[Any]] = TYPED,
    names: Sequence[str] = ("base", "x", "a"),
) -> Manifest:
    container: Manifest = draw(manifests("Container", scalars))
    container["name"] = draw(st.sampled_from(names))
    for key in ("env", "envFrom", "ports", "volumeMounts", "volumeDevices"):
        if draw(st.integers(0, 2)) == 0:
            container[key] = draw(manifests(fields()["Container"][key].type, scalars))
    return container


@st.composite
def whole_pods(draw: st.DrawFn) -> Manifest:
    pod: Manifest = draw(manifests("Pod"))
    if draw(st.booleans()):
        pod["spec"] = draw(pod_specs())
    return pod


OBJECTS = {
    "container_resources": "ResourceRequirements",
    "container_security_context": "SecurityContext",
    "security_context": "PodSecurityContext",
    "affinity": "Affinity",
    "dns_config": "PodDNSConfig",
}
LISTS = {
    "ports": "ContainerPort",
    "volume_mounts": "VolumeMount",
    "volumes": "Volume",
    "env_vars": "EnvVar",
    "env_from": "EnvFromSource",
    "pod_runtime_info_envs": "EnvVar",
    "image_pull_secrets": "LocalObjectReference",
    "host_aliases": "HostAlias",
    "tolerations": "Toleration",
}
STRING_MAPS = st.dictionaries(
    st.sampled_from(["team", "a", "dag_id", JINJA]), st.sampled_from(["x", "", None, JINJA]), max_size=2
)
STRINGS = st.lists(st.sampled_from(["sh", "-c", "{}", "", JINJA]), max_size=3)
OPTIONAL_WORDS = st.sampled_from([None, "", "word", JINJA])
NAMES = st.sampled_from(
    [None, "plain", JINJA, "Hello_Bob_x", "ünï.côde", "a.b-", "_", "-x-", "x" * 70, "y" * 54 + ".z", "9"]
)
SCALARS: Mapping[str, st.SearchStrategy[Any]] = {
    "name": NAMES,
    "random_name_suffix": st.booleans(),
    "namespace": OPTIONAL_WORDS,
    "image": OPTIONAL_WORDS,
    "cmds": STRINGS,
    "arguments": STRINGS,
    "labels": STRING_MAPS,
    "annotations": STRING_MAPS,
    "node_selector": STRING_MAPS,
    "configmaps": st.lists(st.sampled_from(["cm", "cm2"]), max_size=2),
    "image_pull_policy": st.sampled_from([None, "", "Always", "Never"]),
    "dnspolicy": st.sampled_from([None, "", "Default"]),
    "termination_message_policy": st.sampled_from([None, "", "File", "FallbackToLogsOnError"]),
    "hostname": OPTIONAL_WORDS,
    "subdomain": OPTIONAL_WORDS,
    "schedulername": OPTIONAL_WORDS,
    "runtime_class_name": OPTIONAL_WORDS,
    "priority_class_name": OPTIONAL_WORDS,
    "service_account_name": OPTIONAL_WORDS,
    "base_container_name": st.sampled_from([None, "base", "main", "x"]),
    "automount_service_account_token": st.sampled_from([None, True, False]),
    "hostnetwork": st.sampled_from([None, True, False]),
    "active_deadline_seconds": st.sampled_from([None, 0, 60]),
    "termination_grace_period": st.sampled_from([None, 0, 60]),
    "do_xcom_push": st.booleans(),
    "on_finish_action": st.sampled_from(["delete_pod", "keep_pod"]),
}
SECRETS = st.lists(
    st.sampled_from(
        [
            ("env", "target", "s1", "key", None),
            ("env", "Target", "s1", None, None),
            ("env", None, "s2", None, None),
            ("volume", "/etc/s", "s3", None, [{"key": "k", "path": "p"}]),
            ("volume", "/etc/t", "s3", None, None),
        ]
    ),
    max_size=3,
)
TASK_IDS = st.sampled_from(["task", "outer.inner.setup_x", "Überweisung", "任务", "_", "t" * 120, "a.-b"])

Pair = tuple[dict[str, Any], dict[str, Any]]


@st.composite
def keyword_sets(draw: st.DrawFn) -> Pair:
    """The same parameters twice: as the incumbent takes them, and in any form that kpo_async takes."""
    theirs: dict[str, Any] = {"task_id": draw(TASK_IDS)}
    chosen = draw(st.lists(st.sampled_from(sorted(SCALARS)), max_size=8, unique=True))
    theirs |= {name: draw(SCALARS[name]) for name in chosen}
    ours = dict(theirs)
    for name, kind in OBJECTS.items():
        if draw(st.integers(0, 3)) == 0:
            theirs[name], ours[name] = draw(forms(kind))
    for name, kind in LISTS.items():
        if draw(st.integers(0, 3)) == 0:
            pairs = draw(st.lists(forms(kind), max_size=2))
            theirs[name], ours[name] = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if draw(st.booleans()):
        pairs = draw(st.lists(containers().flatmap(lambda value: forms_of(value, "Container")), max_size=2))
        theirs["init_containers"], ours["init_containers"] = [p[0] for p in pairs], tuple(p[1] for p in pairs)
    if draw(st.integers(0, 5)) == 0:
        theirs["env_vars"] = ours["env_vars"] = draw(STRING_MAPS)
    if draw(st.booleans()):
        theirs["secrets"] = [incumbent.Secret(*parts) for parts in draw(SECRETS)]
        ours["secrets"] = draw(st.sampled_from([theirs["secrets"], [Secret.of(item) for item in theirs["secrets"]]]))
    if draw(st.booleans()):
        theirs["pod_template_dict"] = ours["pod_template_dict"] = draw(templates())
    if draw(st.booleans()):
        theirs["full_pod_spec"], ours["full_pod_spec"] = draw(whole_pods().flatmap(lambda pod: forms_of(pod, "Pod")))
    return theirs, ours


def forms(kind: str) -> st.SearchStrategy[tuple[Any, Any]]:
    return manifests(kind).flatmap(lambda value: forms_of(value, kind))


@st.composite
def forms_of(draw: st.DrawFn, value: Manifest, kind: str) -> tuple[Any, Any]:
    """A model of `kubernetes`, and the same object in one of the forms that kpo_async takes."""
    theirs = incumbent.model(value, kind)
    form = draw(st.sampled_from(["same", "dict", "snake_case", "async"]))
    # By the incumbent's rules, an empty dict says nothing where an empty model does, and dicts are rendered as a whole.
    if form == "dict" and value and "{{" not in repr(value):
        return theirs, copy.deepcopy(value)
    if form == "snake_case" and theirs.to_dict() and "{{" not in repr(value) and "{}" not in repr(value):
        return theirs, theirs.to_dict()
    return theirs, incumbent.model(value, kind, incumbent.ASYNC_CLIENT) if form == "async" else copy.deepcopy(theirs)
