"""Three minutes of `benchmarks/chaos.py`: everything around the tasks is killed, frozen, restarted and deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpo_async.demo.processes import ProgramError
from tests.deployments.postgres import programs

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"
OPTIONS = ("--minutes", "3", "--pods", "40", "--longest", "60")

pytestmark = [pytest.mark.airflow, pytest.mark.alone, pytest.mark.timeout(900)]


def test_three_minutes_of_chaos_break_no_promise() -> None:
    try:
        programs()
    except ProgramError as error:
        pytest.skip(str(error))
    # Not on a cluster that the caller happens to have a kubeconfig of.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KUBECONFIG", "KPO_"))}
    command = [sys.executable, str(CHAOS), *OPTIONS]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=850)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-5000:]
