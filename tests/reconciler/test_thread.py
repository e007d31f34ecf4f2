"""The switch of the reconciler, and the installation whose pods it looks after."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kpo_async.demo.airflow import callers_environment
from kpo_async.reconciler import thread

LOSES_ITS_DATABASE_ONCE = """
import sqlalchemy
from airflow import settings
from airflow.models.variable import Variable
from kpo_async.hooks.installation import VARIABLE
from kpo_async.reconciler.thread import stored_installation_id

settings.initialize()
Variable.metadata.create_all(settings.engine)
Variable.set(VARIABLE, "team-a")

@sqlalchemy.event.listens_for(settings.engine, "before_cursor_execute", once=True)
def lose_connection(connection, cursor, statement, parameters, context, many):
    raise sqlalchemy.exc.OperationalError(statement, parameters, Exception("server closed the connection"))

print(stored_installation_id(), stored_installation_id())
"""


@pytest.mark.parametrize(("value", "starts"), [("off", False), ("False", False), ("on", True), ("", True)])
def test_the_configuration_switches_the_reconciler_off(
    monkeypatch: pytest.MonkeyPatch, value: str, starts: bool
) -> None:
    ran = threading.Event()
    monkeypatch.setattr(thread, "_run", ran.set)
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__RECONCILE", value)
    thread.start()
    assert ran.wait(1.0 if starts else 0.1) is starts


def test_a_lost_connection_to_the_database_is_no_reason_for_another_installation_id(tmp_path: Path) -> None:
    database = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/db"}
    command = [sys.executable, "-c", LOSES_ITS_DATABASE_ONCE]
    environment = {**callers_environment(), "AIRFLOW__CORE__FERNET_KEY": "", **database}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[-2:] == ["team-a", "team-a"]
