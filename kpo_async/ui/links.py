"""The links that Airflow shows with a task: to its pod on the page, and to the deployment's own dashboard.

They are global links of the plugin, computed in the API server while the page of a task is open. So they are there as
soon as the pod is, for tasks that run, are deferred, or never had a worker, and for subclasses of the operators. Where
a task has no pod they are not shown. Every Airflow process imports this module.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from airflow.sdk.bases.operatorlink import BaseOperatorLink

URL_ROUTE = "kpo-async-pods"
"""Where Airflow shows the page, below `plugin/`."""
INCUMBENT = "airflow.providers.cncf.kubernetes."
"""Its operators push the same XComs. The page does not show their pods; a dashboard does."""


class PodLink(BaseOperatorLink):
    """To the pod's row on the page."""

    @property
    def name(self) -> str:
        return "Pod"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return a path that is relative to Airflow's base URL; empty for a task without a pod."""
        if str(getattr(operator, "_task_module", "")).startswith(INCUMBENT):
            return ""
        found = pod_of(ti_key)
        return page_path(*found) if found else ""


class DashboardLink(BaseOperatorLink):
    """To the pod in the deployment's dashboard: `[kpo_async] pod_link`."""

    def __init__(self, template: str) -> None:
        """`template`: the URL, with `{namespace}` and `{name}`."""
        self._template = template

    @property
    def name(self) -> str:
        return "Pod dashboard"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the URL; empty for a task without a pod."""
        found = pod_of(ti_key)
        return dashboard_url(self._template, *found) if found else ""


def page_path(namespace: str, name: str) -> str:
    """Return the page with this pod opened, relative to Airflow's base URL."""
    return f"plugin/{URL_ROUTE}?pod={quote(f'{namespace}/{name}')}"


def dashboard_url(template: str, namespace: str, name: str) -> str:
    """Return the template's URL of this pod."""
    return template.replace("{namespace}", quote(namespace, safe="")).replace("{name}", quote(name, safe=""))


def pod_of(ti_key: Any) -> tuple[str, str] | None:
    """Return namespace and name of a task instance's pod, from its XComs; None without one."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(XComModel.key, XComModel.value).where(
        XComModel.dag_id == ti_key.dag_id,
        XComModel.task_id == ti_key.task_id,
        XComModel.run_id == ti_key.run_id,
        XComModel.map_index == ti_key.map_index,
        XComModel.key.in_(("pod_name", "pod_namespace")),
    )
    with create_session() as session:
        found = {key: _text(value) for key, value in session.execute(query)}
    namespace, name = found.get("pod_namespace", ""), found.get("pod_name", "")
    return (namespace, name) if namespace and name else None


def _text(value: Any) -> str:
    """Return an XCom that is a string: stored as JSON text, or as that string."""
    if isinstance(value, str) and value.startswith('"'):
        value = json.loads(value)
    return value if isinstance(value, str) else ""
