"""Airflow's side of a triggerer, for tests of its triggers."""

from __future__ import annotations

import pytest
from airflow.sdk.execution_time import task_runner

from tests.workerless.triggerer import Supervisor


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
