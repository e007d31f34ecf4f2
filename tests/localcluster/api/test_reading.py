"""Parsing of requests: bodies of all kinds, quantities, times, patches, paths."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from kpo_async.localcluster.api import bodies, patches, protobuf, request_info, resources, schema
from kpo_async.localcluster.api.errors import StatusError
from kpo_async.localcluster.store import quantity, times

PODS = resources.BY_NAME["pods"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", Fraction(1)),
        ("500m", Fraction(1, 2)),
        ("1Gi", Fraction(2**30)),
        ("1.5k", Fraction(1500)),
        ("2e3", Fraction(2000)),
        ("1E", Fraction(10**18)),
        ("-1", Fraction(-1)),
    ],
)
def test_quantities_are_exact(text: str, number: Fraction) -> None:
    assert quantity.parse(text) == number


@pytest.mark.parametrize("text", ["", "m", "1Q", "one"])
def test_an_invalid_quantity_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity.parse(text)


def test_times_keep_their_nanoseconds() -> None:
    instant = times.parse("2026-01-02T03:04:05.123456789Z")
    assert times.to_nanos(instant) == "2026-01-02T03:04:05.123456789Z"
    assert times.to_micros(instant) == "2026-01-02T03:04:05.123456Z"
    assert times.to_seconds(instant) == "2026-01-02T03:04:05Z"
    assert times.parse("2026-01-02T05:04:05.123456789+02:00") == instant


@pytest.mark.parametrize("text", ["yesterday", "2026-01-02", "2026-01-02T03:04:05"])
def test_an_invalid_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not an RFC 3339 time"):
        times.parse(text)


def test_zero_values_are_omitted_as_by_gos_encoder() -> None:
    read = schema.decode(
        {"metadata": {"labels": {}, "name": "x"}, "spec": {"hostname": "", "nodeSelector": None, "volumes": []}}, "Pod"
    )
    assert read.object == {"metadata": {"name": "x"}, "spec": {}}


def test_unknown_fields_are_reported_with_their_path() -> None:
    read = schema.decode({"spec": {"containers": [{"name": "a", "imagee": "b"}], "x": 1}, "y": 2}, "Pod")
    assert read.unknown == ["spec.containers[0].imagee", "spec.x", "y"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"spec": []}, "cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec"),
        (
            {"spec": {"containers": {}}},
            "cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.",
        ),
        (
            {"spec": {"hostNetwork": 1}},
            "cannot unmarshal number into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        ({"metadata": {"labels": {"a": True}}}, "Go struct field ObjectMeta.metadata.labels of type string"),
        ({"metadata": {"creationTimestamp": "now"}}, 'parsing time "now"'),
    ],
)
def test_wrong_types_are_refused_with_gos_message(value: Any, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        schema.decode(value, "Pod")
    assert refused.value.code == 400
    assert message in refused.value.message


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def _number(number: int, value: int) -> bytes:
    return bytes([number << 3, value])


def _envelope(version: str, kind: str, message: bytes) -> bytes:
    kind_of = _field(1, version.encode()) + _field(2, kind.encode())
    return b"k8s\x00" + _field(1, kind_of) + _field(2, message) + _field(3, b"") + _field(4, b"")


def test_a_protobuf_body_is_decoded_like_json() -> None:
    entry = _field(1, b"a") + _field(2, b"b")
    binary = _field(1, b"raw") + _field(2, b"\x00\xff")
    born = _field(8, _number(1, 60))
    metadata = _field(1, b"settings") + born + _field(11, entry)
    message = _field(1, metadata) + _field(2, entry) + _field(3, binary) + _number(4, 1)
    assert protobuf.load(_envelope("v1", "ConfigMap", message)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "creationTimestamp": "1970-01-01T00:01:00Z", "labels": {"a": "b"}},
        "data": {"a": "b"},
        "binaryData": {"raw": "AP8="},
        "immutable": True,
    }


def test_inlined_messages_of_protobuf_become_fields() -> None:
    limits = _field(1, _field(1, b"cpu") + _field(2, _field(1, b"500m")))
    probe = _field(10, _field(1, _field(2, _field(2, _number(2, 80)))))
    container = _field(1, b"base") + _field(8, limits) + probe
    volume = _field(1, b"v") + _field(2, _field(2, b""))
    spec = _field(2, container) + _field(1, volume)
    read = protobuf.load(_envelope("v1", "Pod", _field(2, spec)))
    assert read["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "500m"}}
    assert read["spec"]["containers"][0]["livenessProbe"] == {"httpGet": {"port": 80}}
    assert read["spec"]["volumes"] == [{"name": "v", "emptyDir": {}}]


@pytest.mark.parametrize(
    "raw", [b"not protobuf", _envelope("v1", "Nothing", b""), _envelope("v1", "Pod", b"\x0a\x7f")], ids=str
)
def test_an_invalid_protobuf_body_is_400(raw: bytes) -> None:
    with pytest.raises(StatusError) as refused:
        bodies.load(raw, protobuf.MEDIA_TYPE, "Pod")
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (b"", "application/json", "unexpected end of JSON input (<empty>)"),
        (b"{oops", "application/json", "invalid character 'o' looking for beginning of object key string ({oops)"),
        (b"[]", "application/json", "cannot unmarshal"),
        (b"a: [", "application/yaml", "yaml parse error"),
    ],
)
def test_a_body_that_cannot_be_parsed_is_400(raw: bytes, kind: str, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        bodies.load(raw, kind, "Pod")
    assert (refused.value.code, message in refused.value.message) == (400, True)


def test_a_body_can_be_yaml() -> None:
    assert bodies.load(b"metadata: {name: x}", "application/yaml", "Pod") == {"metadata": {"name": "x"}}


def test_an_unknown_media_type_is_415_and_a_large_body_is_413() -> None:
    with pytest.raises(StatusError) as refused:
        bodies.load(b"", "text/plain", "Pod")
    assert refused.value.code == 415
    with pytest.raises(StatusError) as refused:
        bodies.check_size(bodies.SIZE_LIMIT + 1)
    assert refused.value.code == 413


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "ConfigMap"}, "converting (v1.ConfigMap) to (core.Pod): unknown conversion"),
        ({"kind": "Pod", "apiVersion": "v2"}, 'no kind "Pod" is registered for version "v2"'),
    ],
)
def test_an_object_of_another_kind_is_refused(value: Any, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        bodies.decode(value, PODS, strict=False)
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        pytest.param({"a": {"b": 1}}, {"a": {"b": None, "c": 2}}, {"a": {"c": 2}}, id="maps merge, null removes"),
        pytest.param({"a": [1, 2]}, {"a": [3]}, {"a": [3]}, id="lists are replaced"),
        pytest.param({"a": 1}, {"a": {"b": None}}, {"a": {}}, id="a map replaces a value"),
    ],
)
def test_merge_patches(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


def _containers(*containers: Any) -> Any:
    return {"spec": {"containers": list(containers)}}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        pytest.param(
            _containers({"name": "a", "image": "1"}, {"name": "b"}),
            _containers({"name": "a", "image": "2"}, {"name": "c"}),
            _containers({"name": "a", "image": "2"}, {"name": "b"}, {"name": "c"}),
            id="by name",
        ),
        pytest.param(
            _containers({"name": "a"}, {"name": "b"}),
            _containers({"name": "a", "$patch": "delete"}),
            _containers({"name": "b"}),
            id="delete one",
        ),
        pytest.param(
            _containers({"name": "a"}),
            _containers({"name": "b"}, {"$patch": "replace"}),
            _containers({"name": "b"}),
            id="replace the list",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a/b"]}},
            {"metadata": {"finalizers": ["c/d"], "$deleteFromPrimitiveList/finalizers": ["a/b"]}},
            {"metadata": {"finalizers": ["c/d"]}},
            id="plain values",
        ),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "2"}}},
            {"metadata": {"labels": {"a": None, "$setElementOrder/x": []}}},
            {"metadata": {"labels": {"b": "2", "$setElementOrder/x": []}}},
            id="maps of values merge plainly",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}},
            {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}},
            id="retain keys",
        ),
        pytest.param(
            {"spec": {"hostname": "x"}}, {"spec": {"$patch": "replace", "os": {}}}, {"spec": {"os": {}}}, id="map"
        ),
    ],
)
def test_strategic_merge_patches(target: Any, patch: Any, result: Any) -> None:
    assert patches.strategic(target, patch, "Pod") == result


def test_a_strategic_patch_without_its_merge_key_is_an_error() -> None:
    with pytest.raises(patches.PatchError, match="does not contain declared merge key: name"):
        patches.strategic(_containers(), _containers({"image": "x"}), "Pod")


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3], "b/c": {"d": 1}}),
        ([{"op": "add", "path": "/a/0", "value": 0}], {"a": [0, 1, 2], "b/c": {"d": 1}}),
        ([{"op": "remove", "path": "/a/1"}], {"a": [1], "b/c": {"d": 1}}),
        ([{"op": "replace", "path": "/b~1c/d", "value": 2}], {"a": [1, 2], "b/c": {"d": 2}}),
        ([{"op": "move", "from": "/a", "path": "/e"}], {"e": [1, 2], "b/c": {"d": 1}}),
        ([{"op": "copy", "from": "/b~1c/d", "path": "/e"}], {"a": [1, 2], "b/c": {"d": 1}, "e": 1}),
        ([{"op": "replace", "path": "", "value": {}}], {}),
    ],
)
def test_json_patches(operations: list[Any], result: Any) -> None:
    target = {"a": [1, 2], "b/c": {"d": 1}}
    assert patches.json_patch(target, operations) == result
    assert target == {"a": [1, 2], "b/c": {"d": 1}}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/z"},
        {"op": "test", "path": "/a", "value": 1},
        {"op": "explode", "path": "/a"},
        {"path": "/a"},
    ],
)
def test_json_patches_that_cannot_be_applied(operation: Any) -> None:
    with pytest.raises(patches.PatchError):
        patches.json_patch({"a": []}, [operation])


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "1"}, ("watch", "n", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "false"}, ("list", "n", "", "")),
        ("GET", "/api/v1/namespaces/n/pods/p/log", {}, ("get", "n", "p", "log")),
        ("DELETE", "/api/v1/namespaces/n/pods", {}, ("deletecollection", "n", "", "")),
        ("GET", "/api/v1/namespaces/n", {}, ("get", "", "n", "")),
        ("PUT", "/api/v1/namespaces/n/status", {}, ("update", "", "n", "status")),
    ],
)
def test_routes(method: str, path: str, query: dict[str, str], expected: tuple[str, ...]) -> None:
    found = request_info.parse(method, path, query)
    assert found is not None
    assert (found.verb, found.namespace, found.name, found.subresource) == expected
