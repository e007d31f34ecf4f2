"""The table of types against the installed client's models, and the coercion."""

from __future__ import annotations

import datetime
import importlib
import re
from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.pod.schema import Field, coerce, fields

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


@pytest.mark.parametrize(
    ("value", "kind", "result", "warning"),
    [
        ({"host_network": True}, "SecurityContext", {}, "template.host_network is not a field of a SecurityContext"),
        ("false", "bool", True, "template is the string 'false', which counts as true"),
    ],
)
def test_an_obvious_mistake_is_read_as_the_incumbent_reads_it_and_gives_a_warning(
    value: Any, kind: str, result: Any, warning: str
) -> None:
    warnings: list[str] = []
    assert coerce(value, kind, "template", warnings.append) == result
    assert [message[: len(warning)] for message in warnings] == [warning]
