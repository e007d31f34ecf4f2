"""Airflow's side of a triggerer, for tests of its triggers."""

from __future__ import annotations

import pytest
from airflow import plugins_manager
from airflow.sdk.execution_time import task_runner

from tests.workerless.triggerer import Supervisor


@pytest.fixture(autouse=True, scope="session")
def plugins_are_loaded() -> None:
    """Load Airflow's plugins, as a triggerer does before its event loop: DAGs are deserialized with their links."""
    load = getattr(plugins_manager, "get_operator_extra_links", None)  # Airflow 3.1 has another one
    if load is not None:
        load()


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
