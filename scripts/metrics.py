"""Write what follows from `kpo_async.metrics`: `python -m scripts.metrics [--check]`.

That is the table in `docs/metrics.md`, and the mapping by which Prometheus' StatsD exporter makes labels of the values
in names. A test checks that both are current.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from kpo_async.metrics import METRICS, PREFIX, Kind, Metric

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
MAPPING = ROOT / "monitoring" / "statsd-mappings.yml"
MARKS = "<!-- metrics: written by `python -m scripts.metrics` -->\n", "<!-- end of metrics -->\n"
HEAD = "# Written by `python -m scripts.metrics`. For the official Helm chart: the value `statsd.extraMappings`.\n"
AIRFLOW = "airflow."
"""Airflow's default prefix: `[metrics] statsd_prefix`."""
BUCKETS = [0.25, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 14400]
"""Seconds."""


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only compare them. Return 0 if they are current, 1 if `--check` found not."""
    files = {PAGE: page(PAGE.read_text(encoding="utf-8")), MAPPING: mapping()}
    if "--check" in arguments:
        stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path} is not current: run python -m scripts.metrics")
        return 1 if stale else 0
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return 0


def page(text: str) -> str:
    """Return the page with the current table."""
    rows = (f"| {cells} |\n" for cells in map(_row, METRICS))
    table = "| Name | Kind | Tags | Meaning |\n|---|---|---|---|\n" + "".join(rows)
    begin, end = MARKS
    return re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}{table}{end}", text, flags=re.DOTALL)


def mapping() -> str:
    """Return the StatsD exporter's configuration, as YAML."""
    return HEAD + yaml.safe_dump({"mappings": [_mapping(metric) for metric in METRICS]}, sort_keys=False)


def tags_of(metric: Metric) -> tuple[str, ...]:
    """Return the tags with which a metric is published."""
    return ("host", *metric.tags) if metric.kind is Kind.GAUGE else metric.tags


def prometheus_name(metric: Metric) -> str:
    """Return the name that the StatsD exporter gives it."""
    return (AIRFLOW + PREFIX + metric.name).replace(".", "_")


def _row(metric: Metric) -> str:
    tags = ", ".join(f"`{tag}`" for tag in tags_of(metric))
    return " | ".join((f"`{PREFIX}{metric.name}`", metric.kind, tags, metric.meaning))


def _mapping(metric: Metric) -> dict[str, Any]:
    tags = tags_of(metric)
    found: dict[str, Any] = {
        "match": ".".join([AIRFLOW + PREFIX + metric.name, *("*" for _ in tags)]),
        "name": prometheus_name(metric),
    }
    if metric.kind is Kind.TIMER:
        found |= {"observer_type": "histogram", "histogram_options": {"buckets": BUCKETS}}
    if tags:
        found["labels"] = {tag: f"${number}" for number, tag in enumerate(tags, 1)}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
