"""The Airflow plugin (entry point `airflow.plugins`): what this package adds to Airflow's processes.

In a triggerer it shares DAGs, notes heartbeats, tames the garbage collector, has requests answered together, and starts
the reconciler of pods. In the API server it adds the page "Pods" and the links of tasks to it. Every Airflow process
imports this, so it imports nothing large: the page's application is built by its first request.

Airflow calls `on_starting` while it makes the job that its component runs, before the job knows its type; a triggerer
then forks the process of its triggers.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.settings import dags_are_shared, page_is_on, pod_link, serves_in_batches
from kpo_async.hooks.triggerer import triggerer_module
from kpo_async.ui.links import URL_ROUTE, DashboardLink, PodLink

log = logging.getLogger(__name__)

TRIGGERER = "TriggererJob"
URL_PREFIX = "/kpo-async"
"""Where Airflow mounts the page's application."""


class JobListener:
    """Notices a triggerer."""

    def __init__(self) -> None:
        self._started = False

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Wait for the first fork of this process, and start the reconciler if it is a triggerer."""
        # Task processes call this too. What they fork is none of its business.
        if triggerer_module():
            os.register_at_fork(after_in_parent=lambda: self._forked(component))

    def _forked(self, component: Any) -> None:
        if self._started or getattr(component, "job_type", None) != TRIGGERER:
            return
        self._started = True
        from kpo_async.reconciler import thread

        thread.start()


class Page:
    """The ASGI application of the page "Pods", which imports what it needs with its first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            self._app = await asyncio.to_thread(_create_app)
        await self._app(scope, receive, send)


def _create_app() -> Any:
    from kpo_async.ui.application import create_app

    return create_app()


def _adapt_triggerer() -> None:
    from kpo_async.hooks import batched_serving, garbage, heartbeat, shared_dags

    heartbeat.note_heartbeats()
    garbage.install()
    if dags_are_shared():
        shared_dags.install()
    if serves_in_batches():
        batched_serving.install()


PAGE: dict[str, Any] = {"name": "kpo-async", "app": Page(), "url_prefix": URL_PREFIX}
VIEW: dict[str, Any] = {
    "name": "Pods",
    # Relative: Airflow may have a prefix in its base URL.
    "href": f"{URL_PREFIX[1:]}/",
    "destination": "nav",
    "category": "browse",
    "url_route": URL_ROUTE,
}

# Where any plugin has a listener, Airflow imports no DAG with `end_from_trigger` (`DagBag.bag_dag`). So only a
# triggerer gets this one: it imports no DAGs, and loads its plugins after its own module.
LISTENERS: list[Any] = [JobListener()] if triggerer_module() else []


class KpoAsyncPlugin(AirflowPlugin):
    """What this package adds to Airflow's processes."""

    name = "kpo_async"
    listeners = LISTENERS

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Add what the configuration asks for: an option that is not valid is logged, and its part left out."""
        cls.fastapi_apps, cls.external_views, cls.global_operator_extra_links = [], [], []
        try:
            if page_is_on():
                cls.fastapi_apps, cls.external_views = [PAGE], [VIEW]
                cls.global_operator_extra_links.append(PodLink())
            if template := pod_link():
                cls.global_operator_extra_links.append(DashboardLink(template))
            if triggerer_module():
                _adapt_triggerer()
        except ConfigError as error:
            log.error("%s", error)
