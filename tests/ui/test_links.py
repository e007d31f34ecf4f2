"""A task's links, and what of the page the configuration turns on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kpo_async import plugin
from kpo_async.ui.links import dashboard_url, page_path

BACKPORTS = {"exceptiongroup", "taskgroup"}
"""Packages that stand for the standard library's before Python 3.11."""


def loaded() -> type[plugin.KpoAsyncPlugin]:
    plugin.KpoAsyncPlugin.on_load()
    return plugin.KpoAsyncPlugin


def test_a_pod_link_leads_to_the_row_on_the_page_wherever_airflow_is_mounted() -> None:
    assert page_path("jobs", "a-b.c") == "plugin/kpo-async-pods?pod=jobs/a-b.c"


def test_a_dashboards_url_names_the_pod_and_nothing_in_a_name_changes_the_url() -> None:
    assert dashboard_url("https://k/{namespace}/{name}?tab=log", "jobs", "a-b") == "https://k/jobs/a-b?tab=log"
    assert dashboard_url("https://k/{name}", "jobs", "../x?y=1#z") == "https://k/..%2Fx%3Fy%3D1%23z"


def test_the_page_and_its_link_are_on_by_default() -> None:
    found = loaded()
    assert [view["href"] for view in found.external_views] == ["kpo-async/"]
    assert [app["url_prefix"] for app in found.fastapi_apps] == ["/kpo-async"]
    assert [link.name for link in found.global_operator_extra_links] == ["Pod"]


def test_the_page_can_be_turned_off_and_a_dashboard_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__UI", "off")
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__POD_LINK", "https://k/{namespace}/{name}")
    found = loaded()
    assert (found.external_views, found.fastapi_apps) == ([], [])
    assert [link.name for link in found.global_operator_extra_links] == ["Pod dashboard"]


def test_a_link_that_is_not_a_web_address_is_logged_and_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__POD_LINK", "javascript:alert(1)")
    assert [link.name for link in loaded().global_operator_extra_links] == ["Pod"]
    assert "[kpo_async] pod_link is 'javascript:alert(1)'" in caplog.text


def test_importing_the_plugin_imports_no_web_framework_and_no_client() -> None:
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules); import kpo_async.plugin;"
        "kpo_async.plugin.KpoAsyncPlugin.on_load();"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('airflow.')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in found if name.split(".")[0] not in BACKPORTS}
    light = {"_version", "compat", "exceptions", "hooks", "hooks.settings", "options", "plugin", "ui", "ui.links"}
    assert ours <= {"kpo_async", *(f"kpo_async.{name}" for name in light)}
