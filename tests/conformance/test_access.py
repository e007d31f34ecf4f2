"""Authentication and authorization: users, minimal roles, and the texts of errors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance.api import Api, Object, asleep

RBAC = "rbac.authorization.k8s.io/v1"
LEAST_RIGHTS: list[Object] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "delete", "patch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


async def _account(api: Api, rules: list[Object]) -> Api:
    """Create a service account with these rules in the namespace, and return its access."""
    assert (await api.create("serviceaccounts", {"metadata": {"name": "worker"}})).status == 201
    role = {"metadata": {"name": "worker"}, "rules": rules}
    assert (await api.create(f"{RBAC}/roles", role)).status == 201
    binding = {
        "metadata": {"name": "worker"},
        "subjects": [{"kind": "ServiceAccount", "name": "worker", "namespace": api.namespace}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "worker"},
    }
    assert (await api.create(f"{RBAC}/rolebindings", binding)).status == 201
    answer = await api.create("serviceaccounts", {"spec": {"expirationSeconds": 600}}, "worker", "token")
    assert answer.status == 201
    return api.as_user(answer.body["status"]["token"])


async def test_a_wrong_token_is_401(api: Api) -> None:
    answer = await api.as_user("not-a-token").get("pods")
    assert (answer.status, answer.body["reason"], answer.message) == (401, "Unauthorized", "Unauthorized")


async def test_a_client_without_a_token_is_anonymous_and_has_no_rights(api: Api) -> None:
    answer = await api.as_user("").get("pods")
    assert answer.status in (401, 403)
    if answer.status == 403:
        assert 'User "system:anonymous" cannot list resource "pods"' in answer.message


async def test_a_request_that_a_role_grants_succeeds(api: Api) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    assert (await worker.create("pods", asleep("mine"))).status == 201
    assert (await worker.get("pods", "mine")).status == 200
    assert (await worker.merge("pods", "mine", {"metadata": {"labels": {"a": "b"}}})).status == 200
    assert (await worker.get("pods", "mine", "log")).status == 204
    assert (await worker.delete("pods", "mine")).status == 200


@pytest.mark.parametrize(
    ("method", "name", "subresource", "query", "refused"),
    [
        pytest.param("GET", "", "", {}, 'cannot list resource "pods"', id="list"),
        pytest.param("GET", "", "", {"watch": "true"}, 'cannot watch resource "pods"', id="watch"),
        pytest.param("DELETE", "", "", {}, 'cannot deletecollection resource "pods"', id="deletecollection"),
        pytest.param("POST", "x", "exec", {"command": "true"}, 'cannot create resource "pods/exec"', id="exec"),
        pytest.param("POST", "x", "eviction", {}, 'cannot create resource "pods/eviction"', id="eviction"),
    ],
)
async def test_a_request_that_no_role_grants_is_403_with_the_user_and_the_verb(
    api: Api, method: str, name: str, subresource: str, query: dict[str, str], refused: str
) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    answer = await worker.call(method, "pods", name, subresource, **query)
    subject = f'pods "{name}"' if name else "pods"
    user = f"system:serviceaccount:{api.namespace}:worker"
    assert answer.status == 403
    assert answer.body["reason"] == "Forbidden"
    assert answer.message == (
        f'{subject} is forbidden: User "{user}" {refused} in API group "" in the namespace "{api.namespace}"'
    )


async def test_a_role_applies_only_to_its_namespace(api: Api) -> None:
    worker = await _account(api, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}])
    assert (await worker.get("pods")).status == 200
    elsewhere = await worker.get("/api/v1/namespaces/default/pods")
    assert elsewhere.status == 403
    assert elsewhere.message.endswith('in API group "" in the namespace "default"')
    everywhere = await worker.get("/api/v1/pods")
    assert everywhere.message.endswith('cannot list resource "pods" in API group "" at the cluster scope')


async def test_a_rule_with_a_name_applies_only_to_that_name(api: Api) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get"]}]
    worker = await _account(api, rules)
    for name in ("mine", "other"):
        await api.create("configmaps", {"metadata": {"name": name}})
    assert (await worker.get("configmaps", "mine")).status == 200
    assert (await worker.get("configmaps", "other")).status == 403


@pytest.mark.parametrize(("verb", "allowed"), [("create", True), ("list", False), ("watch", False)])
async def test_an_access_review_returns_what_is_allowed(api: Api, verb: str, allowed: bool) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    review = {"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": api.namespace}}}
    answer = await worker.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    assert answer.status == 201
    assert answer.body["status"]["allowed"] is allowed


async def test_a_token_of_a_deleted_account_is_401(api: Api, real_cluster: Path | None) -> None:
    worker = await _account(api, LEAST_RIGHTS)
    assert (await worker.get("pods", "x")).status == 404
    await api.delete("serviceaccounts", "worker")
    if real_cluster:
        # A real server caches the result of a token's check for ten seconds.
        await asyncio.sleep(11)
    assert (await worker.get("pods", "x")).status == 401


async def test_every_user_can_get_the_version(api: Api) -> None:
    worker = await _account(api, [])
    answer = await worker.get("/version")
    assert answer.status == 200
    assert answer.body["major"] == "1"


async def test_an_administrator_can_impersonate_another_user(api: Api) -> None:
    user = f"system:serviceaccount:{api.namespace}:worker"
    await _account(api, LEAST_RIGHTS)
    refused = await api.call("GET", "pods", headers={"Impersonate-User": user})
    assert (refused.status, f'User "{user}" cannot list' in refused.message) == (403, True)
    assert (await api.call("GET", "pods", "nobody", headers={"Impersonate-User": user})).status == 404
