"""What all objects share: replacing, patches, validation, quotas, namespaces."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.conformance.api import IMAGE, Api, Object, asleep, pod

JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


async def test_a_secret_converts_plain_text_to_data(api: Api) -> None:
    body = {"metadata": {"name": "hidden"}, "stringData": {"a": "b"}, "data": {"c": "ZA=="}}
    created = (await api.create("secrets", body)).body
    assert created["data"] == {"a": base64.b64encode(b"b").decode(), "c": "ZA=="}
    assert created["type"] == "Opaque"
    assert "stringData" not in created


async def test_replacing_an_old_version_is_409(api: Api) -> None:
    created = (await api.create("configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}})).body
    await api.merge("configmaps", "settings", {"data": {"a": "2"}})
    answer = await api.call("PUT", "configmaps", "settings", body={**created, "data": {"a": "3"}})
    assert answer.status == 409
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "settings": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


async def test_replacing_without_a_version_overwrites(api: Api) -> None:
    await api.create("configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}})
    body = {"metadata": {"name": "settings"}, "data": {"b": "2"}}
    answer = await api.call("PUT", "configmaps", "settings", body=body)
    assert (answer.status, answer.body["data"]) == (200, {"b": "2"})


async def test_an_update_without_a_change_keeps_the_version(api: Api) -> None:
    created = (await api.create("configmaps", {"metadata": {"name": "settings"}, "data": {"a": "1"}})).body
    again = (await api.merge("configmaps", "settings", {"data": {"a": "1"}})).body
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]


async def test_a_merge_patch_sets_and_removes(api: Api) -> None:
    await api.create("pods", asleep("patched", labels={"keep": "1", "drop": "2"}))
    answer = await api.merge("pods", "patched", {"metadata": {"labels": {"drop": None, "add": "3"}}})
    assert answer.body["metadata"]["labels"] == {"keep": "1", "add": "3"}


async def test_a_merge_patch_may_name_the_version_it_expects(api: Api) -> None:
    created = (await api.create("pods", asleep("patched"))).body
    patch = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"], "labels": {"a": "1"}}}
    assert (await api.merge("pods", "patched", patch)).status == 200
    assert (await api.merge("pods", "patched", {"metadata": {**patch["metadata"], "labels": {"a": "2"}}})).status == 409


async def test_a_json_patch_operates_and_tests(api: Api) -> None:
    await api.create("pods", asleep("patched", labels={"a": "1"}))
    good: list[Object] = [
        {"op": "test", "path": "/metadata/labels/a", "value": "1"},
        {"op": "add", "path": "/metadata/annotations", "value": {"example.com/note": "x"}},
        {"op": "replace", "path": "/metadata/labels/a", "value": "2"},
    ]
    answer = await api.call("PATCH", "pods", "patched", body=good, content_type=JSON_PATCH)
    assert answer.body["metadata"]["labels"] == {"a": "2"}
    assert answer.body["metadata"]["annotations"] == {"example.com/note": "x"}
    assert (await api.call("PATCH", "pods", "patched", body=good, content_type=JSON_PATCH)).status == 422


async def test_a_strategic_merge_patch_finds_containers_by_name(api: Api) -> None:
    await api.create("pods", asleep("patched"))
    patch = {"spec": {"containers": [{"name": "base", "image": "busybox:1.37"}]}}
    answer = await api.call("PATCH", "pods", "patched", body=patch, content_type=STRATEGIC)
    assert answer.status == 200
    [container] = answer.body["spec"]["containers"]
    assert container["image"] == "busybox:1.37"
    assert container["command"] == ["sh", "-c", "true"]


async def test_server_side_apply_creates_and_then_changes(api: Api) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    query = {"fieldManager": "tests"}
    first = await api.call("PATCH", "configmaps", "applied", body=body, content_type=APPLY, **query)
    body["data"] = {"a": "2"}
    second = await api.call("PATCH", "configmaps", "applied", body=body, content_type=APPLY, **query)
    assert (first.status, second.status, second.body["data"]) == (201, 200, {"a": "2"})


async def test_a_patch_of_an_unknown_type_is_415(api: Api) -> None:
    await api.create("pods", asleep("patched"))
    assert (await api.call("PATCH", "pods", "patched", body={})).status == 415


async def test_the_status_changes_only_by_its_subresource(api: Api) -> None:
    await api.create("pods", asleep("patched"))
    patch = {"status": {"phase": "Failed", "message": "by hand"}}
    assert (await api.merge("pods", "patched", patch)).body["status"]["phase"] == "Pending"
    assert (await api.merge("pods", "patched", patch, "status")).body["status"]["phase"] == "Failed"
    assert (await api.get("pods", "patched")).body["status"]["message"] == "by hand"


async def test_most_of_a_pods_spec_cannot_change(api: Api) -> None:
    await api.create("pods", asleep("fixed"))
    answer = await api.merge("pods", "fixed", {"spec": {"restartPolicy": "Always"}})
    assert answer.status == 422
    assert 'Pod "fixed" is invalid: spec: Forbidden: pod updates may not change fields other than' in answer.message


def _spec(**spec: Any) -> Object:
    return pod("p", **spec)


def _meta(**metadata: Any) -> Object:
    return {**pod("p"), "metadata": {"name": "p", **metadata}}


def _container(**fields: Any) -> Object:
    return pod("p", containers=[{"name": "base", "image": IMAGE, **fields}])


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        pytest.param(_meta(name="Bad_Name"), "metadata.name", "a lowercase RFC 1123 subdomain must consist", id="name"),
        pytest.param(_meta(name="x" * 254), "metadata.name", "must be no more than 253 characters", id="long name"),
        pytest.param(
            _meta(labels={"a": "b c"}), "metadata.labels", "a valid label must be an empty string", id="label"
        ),
        pytest.param(_meta(labels={"a": "x" * 64}), "metadata.labels", "no more than 63 characters", id="long label"),
        pytest.param(_meta(labels={"-a": "b"}), "metadata.labels", "name part must consist of", id="label key"),
        pytest.param(_meta(annotations={"a b": ""}), "metadata.annotations", "name part must", id="annotation key"),
        pytest.param(
            _meta(annotations={"a": "x" * 263_000}),
            "metadata.annotations",
            "may not be more than 262144 bytes",
            id="large annotations",
        ),
        pytest.param(_spec(containers=[]), "spec.containers", "Required value", id="no containers"),
        pytest.param(_container(image=""), "spec.containers[0].image", "Required value", id="no image"),
        pytest.param(_container(name="Base_1"), "spec.containers[0].name", "RFC 1123 label", id="container name"),
        pytest.param(
            _spec(containers=[{"name": "a", "image": IMAGE}] * 2),
            "spec.containers[1].name",
            'Duplicate value: "a"',
            id="two containers of a name",
        ),
        pytest.param(
            _container(volumeMounts=[{"name": "x", "mountPath": "/a"}]),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "x"',
            id="mount of no volume",
        ),
        pytest.param(
            _container(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests",
            "must be less than or equal to cpu limit of 1",
            id="more requested than allowed",
        ),
        pytest.param(
            _container(env=[{"name": "A=B"}]), "spec.containers[0].env[0].name", "other than '='", id="env name"
        ),
        pytest.param(
            _spec(restartPolicy="Sometimes"),
            "spec.restartPolicy",
            'Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"',
            id="restart policy",
        ),
        pytest.param(
            _spec(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "between 1 and 2147483647", id="deadline"
        ),
        pytest.param(
            _spec(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
            "spec.tolerations[0].operator",
            "value must be empty when `operator` is 'Exists'",
            id="toleration",
        ),
    ],
)
async def test_an_invalid_pod_is_422_with_the_field_and_the_cause(
    api: Api, body: Object, field: str, message: str
) -> None:
    answer = await api.create("pods", body, dryRun="All")
    assert answer.status == 422
    assert answer.body["reason"] == "Invalid"
    causes = {cause["field"]: cause["message"] for cause in answer.body["details"]["causes"]}
    assert message in causes[field]
    assert f"{field}: {causes[field]}" in answer.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            _spec(activeDeadlineSeconds="x"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64",
            id="text for a number",
        ),
        pytest.param(
            _container(env=[{"name": "A", "value": 1}]),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
            id="number for a text",
        ),
        pytest.param(
            _container(resources={"requests": {"cpu": "abc"}}), "quantities must match the regular", id="quantity"
        ),
    ],
)
async def test_a_value_of_the_wrong_type_is_400(api: Api, body: Object, message: str) -> None:
    answer = await api.create("pods", body, dryRun="All")
    assert answer.status == 400
    assert f'Pod in version "v1" cannot be handled as a Pod: {message}' in answer.message


async def test_an_unknown_field_is_dropped_with_a_warning_or_refused_when_strict(api: Api) -> None:
    body = _spec(colour="red")
    lenient = await api.create("pods", body, dryRun="All")
    assert lenient.status == 201
    assert "colour" not in lenient.body["spec"]
    assert lenient.headers["Warning"] == '299 - "unknown field \\"spec.colour\\""'
    strict = await api.create("pods", body, dryRun="All", fieldValidation="Strict")
    assert strict.status == 400
    assert strict.message.endswith('strict decoding error: unknown field "spec.colour"')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(_spec(serviceAccountName="nobody"), 'serviceaccount "nobody" not found', id="service account"),
        pytest.param(_spec(priorityClassName="nope"), "no PriorityClass with name nope was found", id="priority class"),
        pytest.param(_spec(runtimeClassName="nope"), 'pod rejected: RuntimeClass "nope" not found', id="runtime class"),
    ],
)
async def test_what_a_pod_refers_to_must_exist(api: Api, body: Object, message: str) -> None:
    answer = await api.create("pods", body, dryRun="All")
    assert answer.status == 403
    assert answer.message.startswith('pods "p" is forbidden: ')
    assert message in answer.message


async def test_a_pod_beyond_the_quota_is_403(api: Api) -> None:
    await api.create("resourcequotas", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})
    async with api.watch("resourcequotas") as watch:
        await watch.until(lambda event: event.object["status"].get("used") == {"pods": "0"})
        assert (await api.create("pods", asleep("first"))).status == 201
        await watch.until(lambda event: event.object["status"].get("used") == {"pods": "1"})
    answer = await api.create("pods", asleep("second"))
    assert answer.status == 403
    assert answer.message == (
        'pods "second" is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1'
    )


async def test_a_namespace_is_removed_with_its_contents(api: Api) -> None:
    await api.create("configmaps", {"metadata": {"name": "settings"}})
    async with api.watch("/api/v1/namespaces", fieldSelector=f"metadata.name={api.namespace}") as watch:
        answer = await api.delete(f"/api/v1/namespaces/{api.namespace}")
        assert answer.body["status"]["phase"] == "Terminating"
        await watch.until(lambda event: event.type == "DELETED", 60)
    assert (await api.get("configmaps")).body["items"] == []
    refused = await api.create("configmaps", {"metadata": {"name": "late"}})
    assert refused.status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/api/v1/namespaces/default/nothings", 404, id="resource"),
        pytest.param("GET", "/apis/no.such/v1/things", 404, id="group"),
        pytest.param("GET", "/nowhere", 404, id="path"),
        pytest.param("PUT", "/api/v1/namespaces/default/pods", 405, id="method"),
    ],
)
async def test_missing_paths_and_methods_are_404_and_405(api: Api, method: str, path: str, status: int) -> None:
    assert (await api.call(method, path, body={})).status == status


async def test_a_body_that_is_not_valid_json_is_400(api: Api) -> None:
    answer = await api.create("pods", b"{oops")
    assert answer.status == 400
    assert "couldn't get version/kind; json parse error" in answer.message
