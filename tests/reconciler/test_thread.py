"""The switch of the reconciler."""

from __future__ import annotations

import threading

import pytest

from kpo_async.reconciler import thread


@pytest.mark.parametrize(("value", "starts"), [("off", False), ("False", False), ("on", True), ("", True)])
def test_the_configuration_switches_the_reconciler_off(
    monkeypatch: pytest.MonkeyPatch, value: str, starts: bool
) -> None:
    ran = threading.Event()
    monkeypatch.setattr(thread, "_run", ran.set)
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__RECONCILE", value)
    thread.start()
    assert ran.wait(1.0 if starts else 0.1) is starts
