"""Airflow takes the plugin's listener in a triggerer, and in no other process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpo_async.hooks.triggerer import TRIGGERER_MODULE

ASK = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
from airflow.listeners.listener import get_listener_manager
print(get_listener_manager().has_listeners)
"""


@pytest.mark.parametrize(("modules", "listens"), [([], False), ([TRIGGERER_MODULE], True)])
def test_only_a_triggerer_has_a_listener(tmp_path: Path, modules: list[str], listens: bool) -> None:
    """Airflow refuses DAGs with `end_from_trigger` in a process that has any listener."""
    settings = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    answer = subprocess.run(
        [sys.executable, "-c", ASK, *modules],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split()[-1] == str(listens)  # Airflow 3.2 logs to it before
