"""LIST: selectors, pages, and the meaning of resourceVersion."""

from __future__ import annotations

import gzip

import pytest

from kpo_async.localcluster.cluster import LocalCluster
from tests.conformance.api import Api, asleep

LABELS = {
    "web": {"app": "web", "tier": "front"},
    "api": {"app": "api", "tier": "back"},
    "job": {"app": "job"},
    "bare": {},
}


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        pytest.param("app=web", "web", id="="),
        pytest.param("app==web", "web", id="=="),
        pytest.param("app!=web", "api bare job", id="!= also takes those without"),
        pytest.param("app in (web,api)", "api web", id="in"),
        pytest.param("app notin (web, api)", "bare job", id="notin also takes those without"),
        pytest.param("tier", "api web", id="exists"),
        pytest.param("!tier", "bare job", id="does not exist"),
        pytest.param("app,tier!=back", "job web", id="several terms are and"),
        pytest.param("app=", "", id="empty value"),
        pytest.param("tier notin (),app", "api job web", id="an empty set"),
        pytest.param(" app = web ", "web", id="spaces"),
    ],
)
async def test_label_selectors(api: Api, selector: str, names: str) -> None:
    for name, labels in LABELS.items():
        await api.create("configmaps", {"metadata": {"name": name, "labels": labels}})
    answer = await api.get("configmaps", labelSelector=selector)
    found = [item["metadata"]["name"] for item in answer.body["items"]]
    assert " ".join(name for name in found if name in LABELS) == names


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        pytest.param(
            "a b c", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt", id="no op"
        ),
        pytest.param("a in b", "unable to parse requirement: found 'b' expected: '('", id="no set"),
        pytest.param("a===b", "unable to parse requirement: found '=', expected: identifier", id="three equals"),
        pytest.param("a=b c", "found 'c', expected: ',' or 'end of string'", id="no comma"),
    ],
)
async def test_an_invalid_label_selector_is_400(api: Api, selector: str, message: str) -> None:
    answer = await api.get("pods", labelSelector=selector)
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        pytest.param("metadata.name=one", ["one"], id="name"),
        pytest.param("metadata.name!=one", ["two"], id="not a name"),
        pytest.param("status.phase=Pending", ["one", "two"], id="phase"),
        pytest.param("status.phase=Running", [], id="other phase"),
        pytest.param("spec.nodeName=", ["one", "two"], id="no node"),
        pytest.param("spec.schedulerName=nobody,metadata.name=two", ["two"], id="two terms"),
    ],
)
async def test_field_selectors_of_pods(api: Api, selector: str, names: list[str]) -> None:
    for name in ("one", "two"):
        await api.create("pods", asleep(name))
    answer = await api.get("pods", fieldSelector=selector)
    assert [item["metadata"]["name"] for item in answer.body["items"]] == names


async def test_an_unknown_field_is_400(api: Api) -> None:
    answer = await api.get("pods", fieldSelector="spec.colour=red")
    assert (answer.status, answer.message) == (400, "field label not supported: spec.colour")


async def test_items_of_a_list_have_no_kind(api: Api) -> None:
    await api.create("pods", asleep("one"))
    body = (await api.get("pods")).body
    assert (body["kind"], body["apiVersion"]) == ("PodList", "v1")
    assert "kind" not in body["items"][0]


async def test_pages_together_are_the_whole_list_at_one_version(api: Api) -> None:
    for index in range(5):
        await api.create("pods", asleep(f"pod-{index}"))
    first = (await api.get("pods", limit="2")).body
    await api.create("pods", asleep("pod-3a"))
    await api.delete("pods", "pod-4")
    second = (await api.get("pods", limit="2", **{"continue": first["metadata"]["continue"]})).body
    third = (await api.get("pods", limit="2", **{"continue": second["metadata"]["continue"]})).body

    pages = [[item["metadata"]["name"] for item in page["items"]] for page in (first, second, third)]
    assert pages == [["pod-0", "pod-1"], ["pod-2", "pod-3"], ["pod-4"]]
    assert [page["metadata"].get("remainingItemCount") for page in (first, second, third)] == [3, 1, None]
    assert "continue" not in third["metadata"]
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1


async def test_an_invalid_continue_token_is_400(api: Api) -> None:
    answer = await api.get("pods", limit="1", **{"continue": "abc"})
    assert answer.status == 400
    assert answer.message.startswith("invalid continue token: continue key is not valid")


async def test_an_expired_continue_token_is_410_with_a_new_token(api: Api, embedded: LocalCluster) -> None:
    for index in range(3):
        await api.create("pods", asleep(f"pod-{index}"))
    first = (await api.get("pods", limit="1")).body
    await api.create("pods", asleep("pod-9"))
    embedded.store.compact()
    expired = await api.get("pods", limit="1", **{"continue": first["metadata"]["continue"]})
    assert (expired.status, expired.body["reason"]) == (410, "Expired")
    onward = (await api.get("pods", **{"continue": expired.body["metadata"]["continue"]})).body
    assert [item["metadata"]["name"] for item in onward["items"]] == ["pod-1", "pod-2", "pod-9"]


async def test_an_exact_version_returns_the_state_at_that_version(api: Api) -> None:
    await api.create("pods", asleep("early"))
    version = (await api.get("pods")).body["metadata"]["resourceVersion"]
    await api.create("pods", asleep("late"))
    await api.delete("pods", "early")
    exact = (await api.get("pods", resourceVersion=version, resourceVersionMatch="Exact")).body
    assert [item["metadata"]["name"] for item in exact["items"]] == ["early"]
    assert exact["metadata"]["resourceVersion"] == version


async def test_an_exact_version_that_is_compacted_is_410(api: Api, embedded: LocalCluster) -> None:
    version = (await api.get("pods")).body["metadata"]["resourceVersion"]
    await api.create("pods", asleep("late"))
    embedded.store.compact()
    answer = await api.get("pods", resourceVersion=version, resourceVersionMatch="Exact")
    assert (answer.status, answer.body["reason"]) == (410, "Expired")


async def test_a_version_in_the_future_is_504_after_a_while(api: Api) -> None:
    answer = await api.get("pods", resourceVersion="99999999999")
    assert answer.status == 504
    assert answer.body["reason"] == "Timeout"
    assert answer.headers["Retry-After"] == "1"
    assert answer.message.startswith("Timeout: Too large resource version: 99999999999, current: ")


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        pytest.param({"resourceVersion": "abc"}, 400, 'Invalid value: "abc"', id="garbage version"),
        pytest.param({"limit": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax', id="garbage limit"),
        pytest.param(
            {"resourceVersionMatch": "Exact"}, 422, "forbidden unless resourceVersion is provided", id="match alone"
        ),
        pytest.param(
            {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
            422,
            'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
            id="exactly zero",
        ),
        pytest.param(
            {"sendInitialEvents": "true"}, 422, "sendInitialEvents is forbidden for list", id="initial events"
        ),
    ],
)
async def test_invalid_list_options_are_refused(api: Api, query: dict[str, str], status: int, message: str) -> None:
    answer = await api.get("pods", **query)
    assert answer.status == status
    assert message in answer.message


async def test_a_large_list_is_compressed_on_request(api: Api) -> None:
    for index in range(3):
        body = {"metadata": {"name": f"big-{index}"}, "data": {"text": "x" * 60_000}}
        assert (await api.create("configmaps", body)).status == 201
    answer = await api.call("GET", "configmaps", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    raw = gzip.decompress(answer.raw) if answer.raw[:2] == b"\x1f\x8b" else answer.raw
    assert raw.count(b'"name":"big-') >= 3


async def test_a_list_can_be_a_table_for_kubectl(api: Api) -> None:
    await api.create("pods", asleep("shown"))
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = (await api.call("GET", "pods", headers={"Accept": accept})).body
    assert table["kind"] == "Table"
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert table["rows"][0]["cells"][:4] == ["shown", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
