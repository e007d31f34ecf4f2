"""What the process of a triggerer's triggers knows of the heartbeats that its main process sends."""

from __future__ import annotations

import math
import multiprocessing
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

from kpo_async.hooks import heartbeat
from kpo_async.lease import boot_time


@pytest.fixture(autouse=True)
def none_was_noted() -> None:
    heartbeat._shared[:] = bytes(len(heartbeat._shared))


def sent(seconds_ago: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)


def test_no_heartbeat_is_known_where_the_main_process_notes_none() -> None:
    assert heartbeat.last_heartbeat() == math.inf


def test_a_process_knows_the_heartbeats_of_the_one_that_forked_it() -> None:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def tell() -> None:
        while theirs.recv():
            theirs.send(heartbeat.last_heartbeat())

    process = fork.Process(target=tell)
    process.start()
    for seconds_ago in (5.0, 3.0, 0.0):
        heartbeat.note_heartbeat(sent(seconds_ago))
        ours.send(True)
        assert ours.recv() == pytest.approx(boot_time() - seconds_ago, abs=1)
    ours.send(False)
    process.join()


def test_each_turn_of_a_supervisor_notes_its_jobs_last_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[Any] = []
    monkeypatch.setattr(TriggerRunnerSupervisor, "heartbeat", turns.append)
    heartbeat.note_heartbeats()
    heartbeat.note_heartbeats()
    supervisor: Any = SimpleNamespace(job=SimpleNamespace(latest_heartbeat=sent(7)))
    TriggerRunnerSupervisor.heartbeat(supervisor)
    assert turns == [supervisor]
    assert heartbeat.last_heartbeat() == pytest.approx(boot_time() - 7, abs=1)
