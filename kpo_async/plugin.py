"""The Airflow plugin (entry point `airflow.plugins`): starts the reconciler of pods in a triggerer.

Every Airflow process imports this, so it imports nothing else. Airflow calls `on_starting` while it makes the job that
its component runs, before the job knows its type; a triggerer then forks the process of its triggers.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

TRIGGERER = "TriggererJob"
TRIGGERER_MODULE = "airflow.jobs.triggerer_job_runner"
"""Loaded in a triggerer, and not in schedulers, dag-processors or tasks."""


class JobListener:
    """Notices a triggerer."""

    def __init__(self) -> None:
        self._started = False

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Wait for the first fork of this process, and start the reconciler if it is a triggerer."""
        # Task processes call this too. What they fork is none of its business.
        if TRIGGERER_MODULE in sys.modules:
            os.register_at_fork(after_in_parent=lambda: self._forked(component))

    def _forked(self, component: Any) -> None:
        if self._started or getattr(component, "job_type", None) != TRIGGERER:
            return
        self._started = True
        from kpo_async.reconciler import thread

        thread.start()


# Where any plugin has a listener, Airflow imports no DAG with `end_from_trigger` (`DagBag.bag_dag`). So only a
# triggerer gets this one: it imports no DAGs, and loads its plugins after its own module.
LISTENERS: list[Any] = [JobListener()] if TRIGGERER_MODULE in sys.modules else []


class KpoAsyncPlugin(AirflowPlugin):
    """What this package adds to Airflow's processes."""

    name = "kpo_async"
    listeners = LISTENERS
