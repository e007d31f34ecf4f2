"""The rights by component and feature, and the manifests under deploy/ and the page that are made of them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from kpo_async.pod.rights import BOTH, RIGHTS, Component, Feature, manifests, rights, rules

ROOT = Path(__file__).parents[2]


def test_a_triggerer_creates_pods_only_for_the_features_that_need_it() -> None:
    assert "create" not in rules(Component.TRIGGERER)[0]["verbs"]
    for feature in (Feature.START_FROM_TRIGGER, Feature.RETRY):
        assert "create" in rules(Component.TRIGGERER, [feature])[0]["verbs"]
    assert "create" in rules(Component.WORKER)[0]["verbs"]


def test_exec_is_a_right_of_its_own() -> None:
    exec_rule = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}
    for component in BOTH:
        assert exec_rule not in rules(component)
        assert exec_rule in rules(component, [Feature.EXEC])


def test_an_api_server_changes_nothing() -> None:
    granted = {right.verb for right in rights(Component.API_SERVER, list(Feature))}
    assert granted == {"get", "list", "watch"}


def test_accounts_live_with_airflow_and_roles_with_the_pods() -> None:
    found = manifests("pods", airflow_namespace="airflow")
    assert [(body["kind"], body["metadata"]["namespace"]) for body in found[:3]] == [
        ("ServiceAccount", "airflow"),
        ("Role", "pods"),
        ("RoleBinding", "pods"),
    ]
    assert found[2]["subjects"] == [{"kind": "ServiceAccount", "name": "kpo-async-worker", "namespace": "airflow"}]


def test_the_manifest_for_people_is_current() -> None:
    assert list(yaml.safe_load_all((ROOT / "deploy" / "rbac.yaml").read_text())) == manifests("airflow")


def test_the_page_names_every_right() -> None:
    page = (ROOT / "docs" / "deployments" / "rights.md").read_text()
    rows = re.findall(r"^\| `([a-z]+)` `([a-z/]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert rows == [(right.verb, right.resource, components(right.of), right.buys, right.lost) for right in RIGHTS]


def components(of: frozenset[Component]) -> str:
    return "both" if len(of) > 1 else next(iter(of))


def test_the_values_for_the_chart_are_yaml() -> None:
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "values.yaml").read_text())
    accounts = {values[part]["serviceAccount"]["name"] for part in ("workers", "triggerer", "apiServer")}
    assert accounts == {body["metadata"]["name"] for body in manifests("airflow")}
