"""Users' objects <-> plain dicts."""

from __future__ import annotations

import datetime
import enum
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.exceptions import ManifestError
from kpo_async.models import ModelDict, is_model, plain, render, to_dict, to_marked_dict, to_v1pod

kubernetes = pytest.importorskip("kubernetes.client")
kubernetes_asyncio = pytest.importorskip("kubernetes_asyncio.client")

both_clients = pytest.mark.parametrize("client", [kubernetes, kubernetes_asyncio], ids=["sync", "async"])


class LaterValue:
    def resolve(self, context: Any) -> Any:
        return "resolved"


class Lazy(Sequence[str]):
    """As the results of a mapped task: a sequence that is not a list."""

    def __getitem__(self, index: Any) -> Any:
        return ["a", "b"][index]

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return "Lazy()"


class Colour(str, enum.Enum):
    RED = "red"


class Port:
    """An object of the provider's old kind."""

    def to_k8s_client_obj(self) -> Any:
        return kubernetes.V1ContainerPort(container_port=80, name="web")


def volume(client: ModuleType) -> Any:
    return client.V1Volume(
        name="v-{{ ds }}",
        persistent_volume_claim=client.V1PersistentVolumeClaimVolumeSource(claim_name="c-{{ ds }}", read_only=False),
        host_path=client.V1HostPathVolumeSource(path="/literal/{{ braces }}"),
    )


@both_clients
def test_models_become_camel_case_without_what_is_none(client: ModuleType) -> None:
    assert is_model(volume(client))
    assert to_dict(volume(client)) == {
        "name": "v-{{ ds }}",
        "persistentVolumeClaim": {"claimName": "c-{{ ds }}", "readOnly": False},
        "hostPath": {"path": "/literal/{{ braces }}"},
    }


@both_clients
def test_a_models_dict_is_what_the_client_would_send(client: ModuleType) -> None:
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="n", creation_timestamp=datetime.datetime(2026, 1, 2, 3, 4, 5)),
        spec=client.V1PodSpec(
            containers=[client.V1Container(name="c", args=[], env=[client.V1EnvVar(name="A")])],
            volumes=[client.V1Volume(name="e", empty_dir=client.V1EmptyDirVolumeSource())],
            node_selector={"a": None},
        ),
    )
    sender = client.ApiClient.__new__(client.ApiClient)
    assert to_dict(pod) == sender.sanitize_for_serialization(pod)


def test_dicts_and_both_clients_models_mix() -> None:
    mixed = {"a": [kubernetes.V1EnvVar(name="A"), kubernetes_asyncio.V1EnvVar(name="B"), {"name": "C"}, Port()]}
    assert to_dict(mixed) == {"a": [{"name": "A"}, {"name": "B"}, {"name": "C"}, {"containerPort": 80, "name": "web"}]}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ((1, 2), [1, 2]),
        (Colour.RED, "red"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), "2026-01-02T00:00:00+00:00"),
        (None, None),
        ({"a": None}, {"a": None}),
        (type("Text", (str,), {})("x"), "x"),
        (Lazy(), ["a", "b"]),
    ],
    ids=repr,
)
def test_scalars_and_containers_become_the_plain_kind(value: Any, result: Any) -> None:
    converted = to_dict(value)
    assert converted == result
    assert type(converted) is type(result)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
)


@given(JSON)
def test_plain_values_stay_as_they_are_and_are_copied(value: Any) -> None:
    converted = to_dict(value)
    assert converted == value == plain(value)
    assert not isinstance(value, (dict, list)) or converted is not value


def test_foreign_objects_are_refused_unless_they_are_rendered_later() -> None:
    later = LaterValue()
    with pytest.raises(ManifestError, match=r"LaterValue cannot be in a pod"):
        to_dict({"a": [later]})
    assert plain({"a": [kubernetes.V1EnvVar(name="A", value=later)]}) == {"a": [{"name": "A", "value": later}]}


def test_an_empty_model_is_truthy_inside_and_a_plain_dict_outside() -> None:
    marked = to_marked_dict({"given": kubernetes.V1Affinity(), "nothing": {}})
    assert marked == {"given": {}, "nothing": {}}
    assert bool(marked["given"])
    assert not marked["nothing"]
    assert isinstance(to_marked_dict(marked)["given"], ModelDict)
    assert type(to_dict(marked)["given"]) is dict


@both_clients
def test_only_template_fields_are_rendered_and_the_model_does_not_change(client: ModuleType) -> None:
    def render_value(value: Any) -> Any:
        if is_model(value):
            return render(value, render_value)
        if isinstance(value, dict):
            return {key: render_value(item) for key, item in value.items()}
        return value.replace("{{ ds }}", "2026").replace("{{ braces }}", "WRONG") if isinstance(value, str) else value

    original = volume(client)
    assert render(original, render_value) == {
        "name": "v-2026",
        "persistentVolumeClaim": {"claimName": "c-2026", "readOnly": False},
        "hostPath": {"path": "/literal/{{ braces }}"},
    }
    assert original.name == "v-{{ ds }}"
    resources = client.V1ResourceRequirements(limits={"cpu": "{{ ds }}"}, claims=[])
    assert render(resources, render_value) == {"limits": {"cpu": "2026"}, "claims": []}


def test_a_manifest_goes_through_a_v1pod_unchanged() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {}},
        "spec": {
            "affinity": {},
            "containers": [{"name": "base", "args": [], "resources": {"limits": {"cpu": "1"}}}],
            "initContainers": [{"name": "side", "restartPolicy": "Always"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "hostNetwork": False,
        },
    }
    pod = to_v1pod(manifest)
    assert isinstance(pod, kubernetes.V1Pod)
    assert pod.spec.containers[0].resources.limits == {"cpu": "1"}
    assert to_dict(pod) == manifest


def test_without_kubernetes_a_v1pod_is_that_of_kubernetes_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    client = pytest.importorskip("kubernetes_asyncio.client")
    for name in ("kubernetes", "kubernetes.client"):
        monkeypatch.setitem(sys.modules, name, None)
    manifest = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "base", "tty": True}]}}
    pod = to_v1pod(manifest)
    assert isinstance(pod, client.V1Pod)
    pod.spec.tolerations = [client.V1Toleration(key="k", toleration_seconds=5)]
    assert to_dict(pod)["spec"]["tolerations"] == [{"key": "k", "tolerationSeconds": 5}]


def test_a_manifest_that_is_not_a_v1pod_is_refused() -> None:
    with pytest.raises(ManifestError, match="not a valid V1Pod"):
        to_v1pod({"spec": {"containers": [{"image": "x"}]}})


def test_no_client_is_imported_for_plain_values() -> None:
    program = (
        "import sys, kpo_async.pod.validate\n"
        "from kpo_async.pod.build import PodParameters, build_pod\n"
        "build_pod(PodParameters.of({'task_id': 't', 'affinity': {'nodeAffinity': {}}}, warn=print))\n"
        "print({'kubernetes', 'kubernetes_asyncio', 'airflow', 'aiohttp', 'msgspec'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
