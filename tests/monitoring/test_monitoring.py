"""The page, the mapping, the dashboard and the alert rules speak of metrics and tags that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from kpo_async.metrics import METRICS, Kind, Metric
from scripts.metrics import MAPPING, PAGE, ROOT, mapping, page, prometheus_name, tags_of

SUFFIXES = {Kind.COUNTER: ("",), Kind.GAUGE: ("",), Kind.TIMER: ("_bucket", "_sum", "_count")}
LABELS = {
    prometheus_name(metric) + suffix: {*tags_of(metric), *(("le",) if suffix == "_bucket" else ())}
    for metric in METRICS
    for suffix in SUFFIXES[metric.kind]
}
DASHBOARD = json.loads((ROOT / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((ROOT / "monitoring" / "prometheus-alerts.yml").read_text(encoding="utf-8"))["groups"][0][
    "rules"
]
RULE_TESTS = ROOT / "monitoring" / "prometheus-alerts.test.yml"
QUERIES = [
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())),
    *(rule["expr"] for rule in RULES),
]


def test_the_page_and_the_mapping_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run `python -m scripts.metrics`"
    assert MAPPING.read_text(encoding="utf-8") == mapping(), "run `python -m scripts.metrics`"
    assert all(f"| `kpo_async.{metric.name}` |" in text for metric in METRICS)


def test_every_metric_of_the_module_is_in_the_table_and_used() -> None:
    from kpo_async import metrics

    constants = {name: value for name, value in vars(metrics).items() if isinstance(value, Metric)}
    assert set(constants.values()) == set(METRICS)
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "kpo_async").rglob("*.py")]
    for name in constants:
        assert sum(bool(re.search(rf"\b{name}\b", source)) for source in sources) >= 2, name


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_valid_and_asks_for_metrics_and_tags_that_there_are(query: str) -> None:
    parsed = promql_parser.parse(query.replace("$__rate_interval", "5m"))
    selectors = list(_selectors(parsed))
    assert selectors
    for name, matched in selectors:
        assert matched <= LABELS[name]
    (labels,) = {frozenset(LABELS[name]) for name, _ in selectors}
    for grouped in re.findall(r"\bby \(([^)]*)\)", query):
        assert {label.strip() for label in grouped.split(",")} <= labels


@pytest.mark.parametrize(
    "panel", [panel for panel in DASHBOARD["panels"] if "targets" in panel], ids=lambda p: p["title"]
)
def test_a_legend_names_labels_of_its_query(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        grouped = re.match(r"\w+ by \(([^)]*)\)", target["expr"])
        kept = {label.strip() for label in grouped[1].split(",")} if grouped else set()
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        name
        for query in QUERIES
        for name, _ in _selectors(promql_parser.parse(query.replace("$__rate_interval", "5m")))
    }
    for metric in METRICS:
        assert shown & {prometheus_name(metric) + suffix for suffix in SUFFIXES[metric.kind]}, metric.name


def test_alerts_are_described_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [rule["alert"] for rule in RULES] == re.findall(r"^\| `(KpoAsync\w+)` \|", text, re.MULTILINE)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in RULES:
        of_rule = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        assert sorted(of_rule) == [False, True], rule["alert"]


def test_alerts_fire_when_they_should() -> None:
    """By `promtool`, of Debian's package `prometheus`."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: apt-get install prometheus")
    done = subprocess.run([promtool, "test", "rules", RULE_TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_metrics_have_names_that_one_mapping_matches() -> None:
    matches = [entry["match"] for entry in yaml.safe_load(mapping())["mappings"]]
    for match in matches:
        pattern = re.compile(re.escape(match).replace(r"\*", "[^.]+"))
        assert [other for other in matches if pattern.fullmatch(other.replace("*", "x"))] == [match]


def _selectors(expression: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield the name of each selector in a query, and the labels that it matches."""
    found: list[tuple[str, set[str]]] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        return True

    promql_parser.walk(expression, visit)
    yield from found
