"""A process whose forks run tasks or triggers imports what they need before it forks, and no other process does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpo_async.preload import FORKERS, PRELOADED

FORK = """
import gc, importlib, os, sys, types
loaded, *preloaded = sys.argv[1:]
from airflow.providers_manager import ProvidersManager
ProvidersManager().initialize_providers_configuration()  # as every component does first
try:
    importlib.import_module(loaded)
except ModuleNotFoundError:  # of Celery
    sys.modules[loaded] = types.ModuleType(loaded)
if os.fork() == 0:
    loaded = {module: module in sys.modules for module in preloaded}
    ours = [is_loaded for module, is_loaded in loaded.items() if module.startswith("kpo_async.")]
    print(all(loaded.values()), any(ours), gc.get_freeze_count() > 1000)
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


def loaded_in_fork(tmp_path: Path, loaded: str, **settings: str) -> tuple[bool, ...]:
    """Return whether a fork of a component that has `loaded` has all, and whether it has any, of our modules.

    The third value is whether the garbage collector leaves them alone.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **settings,
    }
    command = [sys.executable, "-c", FORK, loaded, *PRELOADED]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(word == "True" for word in answer.stdout.split()[-3:])


@pytest.mark.parametrize("module", FORKERS)
def test_what_forks_tasks_or_triggers_preloads(tmp_path: Path, module: str) -> None:
    assert loaded_in_fork(tmp_path, module) == (True, True, True)


@pytest.mark.parametrize("module", ["airflow.jobs.dag_processor_job_runner", "airflow.api_fastapi.app"])
def test_what_forks_neither_loads_none_of_it(tmp_path: Path, module: str) -> None:
    assert loaded_in_fork(tmp_path, module) == (False, False, False)


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    assert loaded_in_fork(tmp_path, FORKERS[0], AIRFLOW__KPO_ASYNC__PRELOAD="off") == (False, False, False)


def test_an_option_that_is_not_valid_leaves_the_component_running(tmp_path: Path) -> None:
    assert loaded_in_fork(tmp_path, FORKERS[0], AIRFLOW__KPO_ASYNC__PRELOAD="perhaps") == (False, False, False)
