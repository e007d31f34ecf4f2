"""The garbage collector ignores what a triggerer has for good."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor

from kpo_async.hooks import garbage


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


class Supervisor:
    @garbage.left_alone
    def make_client(self) -> list[object]:
        return [[]]


def test_what_is_made_for_good_is_ignored_and_what_comes_later_is_not() -> None:
    gc.unfreeze()
    client = Supervisor().make_client()
    later: list[object] = [[]]
    followed = gc.get_objects()
    assert not any(item is client for item in followed)
    assert any(item is later for item in followed)


@pytest.mark.skipif(not hasattr(TriggerRunnerSupervisor, "make_client"), reason="Airflow 3.3 makes it")
def test_airflows_triggerer_leaves_its_api_alone_and_collects_all_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test of this process may have loaded the plugin.
    own = inspect.unwrap(TriggerRunnerSupervisor.make_client)
    monkeypatch.setattr(TriggerRunnerSupervisor, "make_client", own)
    garbage.install()
    garbage.install()
    assert TriggerRunnerSupervisor.make_client.__wrapped__ is own
    assert gc.get_threshold()[2] == garbage.RARELY
