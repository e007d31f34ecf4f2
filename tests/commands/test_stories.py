"""A whole story with a triggerer and Airflow's database: what the command line tells, and what is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.conftest import ROOT
from tests.statsd import StatsdReceiver, statsd_receiver
from tests.testing.test_plugin import CACHE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STORIES = Path(__file__).with_name("stories.py")
BY_WORKER = {"pods.created", "pods.ended", "api.requests"}
BY_TRIGGERER = {
    "pods.end_lag",
    "pods.living",
    "watch.age",
    "watch.events",
    "logs.lines",
    "logs.lag",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StatsdReceiver]:
    """What a pytest with the stories has printed, and what its processes have published."""
    folder = tmp_path_factory.mktemp("stories")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_stories.py").symlink_to(STORIES)
    with statsd_receiver() as receiver:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_PORT": str(receiver.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "kpo_async.testing.plugin"]
        command += ["-o", "asyncio_mode=auto", "-o", CACHE]
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ran.stdout[-6000:] + ran.stderr[-2000:], receiver


def test_the_stories_are_told_as_they_were(told: tuple[str, StatsdReceiver]) -> None:
    output, _ = told
    assert "3 passed" in output, output


@pytest.mark.parametrize("names", [BY_WORKER, BY_TRIGGERER], ids=["worker", "triggerer"])
def test_workers_and_triggerers_publish_what_they_measure(told: tuple[str, StatsdReceiver], names: set[str]) -> None:
    _, receiver = told
    assert receiver.names >= names
