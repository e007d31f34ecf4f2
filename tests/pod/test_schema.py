"""The table of types against the installed client's models, and the coercion."""

from __future__ import annotations

import datetime
import importlib
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kpo_async.exceptions import ManifestError
from kpo_async.models import ModelDict, to_dict
from kpo_async.pod.schema import Field, coerce, fields, spell
from tests.manifests import manifests

FREE_FORM = {("Pod", "status"), ("ManagedFieldsEntry", "fieldsV1")}
"""Fields of any content."""


def notation(openapi_type: str) -> str:
    if inner := re.fullmatch(r"list\[(.*)\]", openapi_type):
        return f"[{notation(inner[1])}]"
    if inner := re.fullmatch(r"dict[\[(]\w+, (.*)[\])]", openapi_type):
        return f"{{{notation(inner[1])}}}"
    return {"object": "any", "datetime": "any"}.get(openapi_type, openapi_type.removeprefix("V1"))


def is_required(model: Any, attribute: str, configuration: Any) -> bool:
    instance = object.__new__(model)
    instance.local_vars_configuration = configuration
    try:
        setattr(instance, attribute, None)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("package", ["kubernetes", "kubernetes_asyncio"])
def test_the_table_matches_the_clients_models(package: str) -> None:
    pytest.importorskip(package, minversion="36", reason="the table is that of Kubernetes 1.36")
    client = importlib.import_module(f"{package}.client")
    configuration = client.Configuration()
    for name, table in fields().items():
        model = getattr(client.models, name, None) or getattr(client.models, f"V1{name}")
        expected = {
            key: Field(
                "any" if (name, key) in FREE_FORM else notation(model.openapi_types[attribute]),
                is_required(model, attribute, configuration),
            )
            for attribute, key in model.attribute_map.items()
        }
        assert dict(table) == expected, f"{name} of {package}"


def test_the_table_defines_every_type_that_it_uses() -> None:
    scalars = {"str", "int", "bool", "any"}
    named = {field.type.strip("[]{}") for table in fields().values() for field in table.values()}
    assert named - scalars <= set(fields())


def run(value: Any, kind: str) -> Any:
    warnings: list[str] = []
    result = coerce(value, kind, "template", warnings.append)
    assert not warnings
    return result


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        (1, "str", "1"),
        (True, "str", "True"),
        (0.5, "str", "0.5"),
        (datetime.date(2026, 1, 2), "str", "2026-01-02"),
        ("80", "int", 80),
        (7.9, "int", 7),
        ("yes", "bool", True),
        ("", "bool", False),
        ("http", "any", "http"),
        (8080, "any", 8080),
        (None, "int", None),
        ({"a": 1, "b": None}, "{str}", {"a": "1", "b": None}),
        ([1, None], "[str]", ["1", None]),
        ({"limits": {"cpu": 2, "memory": 1.5}}, "ResourceRequirements", {"limits": {"cpu": "2", "memory": "1.5"}}),
        ({"creationTimestamp": None, "labels": {}}, "ObjectMeta", {"labels": {}}),
    ],
)
def test_values_are_coerced_to_the_fields_type(value: Any, kind: str, result: Any) -> None:
    assert run(value, kind) == result


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("soon", "int", "template is 'soon', a whole number is needed"),
        ([], "int", "template is a list, a whole number is needed"),
        ("sh", "[str]", "template is a str, a list is needed"),
        (["a"], "{str}", "template is a list, a mapping is needed"),
        ("x", "SecurityContext", "template is a str, a mapping is needed"),
        ({"containers": [{"image": "x"}]}, "PodSpec", "template.containers[0].name is missing, a Container needs it"),
        ({"containers": None}, "PodSpec", "template.containers is missing, a PodSpec needs it"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_its_path(value: Any, kind: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        run(value, kind)
    assert str(caught.value) == message


def test_a_string_that_counts_as_true_is_read_as_the_incumbent_reads_it_and_gives_a_warning() -> None:
    warnings: list[str] = []
    assert coerce("false", "bool", "template", warnings.append) is True
    assert warnings == ["template is the string 'false', which counts as true: write false without quotes"]


def in_snake_case(value: Any, kind: str) -> Any:
    """`value`, of the type `kind`, as people write it in Python: fields in snake_case, keys of maps as they are."""
    if isinstance(value, list):
        return [in_snake_case(item, kind[1:-1]) for item in value]
    if not isinstance(value, dict) or kind not in fields():
        return value
    return {snake(key): in_snake_case(item, fields()[kind][key].type) for key, item in value.items()}


def snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key).lower()


@given(st.sampled_from(sorted(fields())).flatmap(lambda kind: st.tuples(st.just(kind), manifests(kind))))
def test_snake_case_and_kubernetes_spelling_are_the_same(example: tuple[str, dict[str, Any]]) -> None:
    kind, value = example
    assert spell(value, kind, "it") == value
    assert spell(in_snake_case(value, kind), kind, "it") == value


@pytest.mark.parametrize("package", ["kubernetes", "kubernetes_asyncio"])
@settings(deadline=None)
@given(data=st.data())
def test_a_models_to_dict_is_understood(package: str, data: st.DataObject) -> None:
    incumbent = pytest.importorskip("tests.incumbent", reason="the incumbent is not installed", exc_type=ImportError)
    client = importlib.import_module(f"{package}.client")
    kind = data.draw(st.sampled_from(sorted(fields())))
    model = incumbent.model(data.draw(manifests(kind)), kind, client)
    assert without_empty(spell(model.to_dict(), kind, "it")) == without_empty(to_dict(model))


def without_empty(value: Any) -> Any:
    """`value` without `{}`: `to_dict()` has None for every field of a model in which nothing is set."""
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if isinstance(value, dict):
        return {key: found for key, item in value.items() if (found := without_empty(item)) != {}}
    return value


@given(
    st.sampled_from(sorted(fields())).flatmap(lambda kind: st.tuples(st.just(kind), manifests(kind))),
    st.text(min_size=1, max_size=20),
)
def test_any_other_key_is_refused(example: tuple[str, dict[str, Any]], key: str) -> None:
    kind, value = example
    letters = key.replace("_", "").lower()
    assume(key not in fields()[kind] and letters not in {name.lower() for name in fields()[kind]})
    with pytest.raises(ManifestError) as caught:
        spell({**value, key: 1}, kind, "it")
    assert str(caught.value).startswith(f"it.{key} is not a field of a {kind} in Kubernetes: ")


NONE_NEAR = (
    "is not a field of a HostAlias in Kubernetes: its fields (as of Kubernetes 1.36; a newer client's model may have "
    "more) are hostnames, ip"
)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"runasuser": 0}, "SecurityContext", "it.runasuser is not a field of a SecurityContext in Kubernetes: "
            "did you mean runAsUser?"),
        ({"run_as_usr": 0}, "SecurityContext", "it.run_as_usr is not a field of a SecurityContext in Kubernetes: "
            "did you mean runAsUser?"),
        ({"volumes": [{"name": "v", "nfs": {"paht": "/"}}]}, "PodSpec", "it.volumes[0].nfs.paht is not a field of a "
            "NFSVolumeSource in Kubernetes: did you mean path?"),
        ({"claimName": "c"}, "Volume", "it.claimName is not a field of a Volume in Kubernetes: "
            "did you mean persistentVolumeClaim.claimName?"),
        ({"xyz": 1}, "HostAlias", f"it.xyz {NONE_NEAR}"),
        ({"run_as_user": 1, "runAsUser": 2}, "SecurityContext", "it.runAsUser is given twice, also as 'runAsUser': "
            "remove one of them"),
        ({5: 1}, "HostAlias", f"it.5 {NONE_NEAR}"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_refused_with_its_path_and_the_nearest_field(value: Any, kind: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        spell(value, kind, "it")
    assert str(caught.value) == message


def test_a_newer_clients_model_may_have_fields_that_the_table_does_not() -> None:
    model = ModelDict(name="v", brandNew={"anything": 1}, nfs={"read_only": True})
    assert spell({"volumes": [model]}, "PodSpec", "it")["volumes"] == [
        {"name": "v", "brandNew": {"anything": 1}, "nfs": {"readOnly": True}}
    ]


def test_keys_of_maps_are_left_alone() -> None:
    value = {"labels": {"run_as_user": "x"}, "annotations": {"a_b": "x"}}
    assert spell(value, "ObjectMeta", "it") == value
