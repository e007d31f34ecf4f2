"""What each of Airflow's components measures arrives at a StatsD receiver."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from kpo_async import lifecycle
from kpo_async.hooks.installation import VARIABLE
from tests.factories import identity, manifest, owner
from tests.statsd import StatsdReceiver
from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(200)]

BY_WORKER = {"pods.created", "api.requests"}
BY_TRIGGERER = {
    "pods.living",
    "pods.pending_age",
    "pods.ended",
    "pods.schedule_time",
    "pods.start_time",
    "pods.run_time",
    "pods.end_lag",
    "watch.events",
    "watch.age",
    "logs.lines",
    "logs.bytes",
    "logs.lag",
    "places.waiting",
}
BY_RECONCILER = {"reconciler.orphans", "reconciler.pods"}
BY_A_FROZEN_PROCESS = {"loop.stall"}
SEEN = BY_WORKER | BY_TRIGGERER | BY_RECONCILER | BY_A_FROZEN_PROCESS
# Only a worker creates pods and only a trigger watches single ends: so requests have come from both.
PARTS = [
    ("api.requests", "verb=create"),
    ("api.requests", "verb=watch"),
    ("pods.ended", "verdict=succeeded"),
    ("pods.ended", "verdict=not_started"),
    ("pods.living", "phase=Pending"),
    ("reconciler.pods", "action=delete:1|c"),
]


def test_what_each_component_measures_arrives(whole_airflow: WholeAirflow, statsd: StatsdReceiver) -> None:
    run = whole_airflow.start("measured")
    orphan = leave_pod_behind(whole_airflow)
    freeze(whole_airflow, "triggerer", seconds=1)
    whole_airflow.wait(whole_airflow.airflow.finished(run, timeout=120))
    assert set(whole_airflow.failures(run)) == {"never_starts"}
    whole_airflow.until("the orphan to go", lambda: orphan not in whole_airflow.pods(), timeout=30)
    whole_airflow.until("all to arrive", lambda: not missing(statsd), timeout=30)


def missing(statsd: StatsdReceiver) -> list[str]:
    """Return what has not arrived. Each process publishes every 10 seconds, and so at other moments than the others."""
    return sorted(SEEN - statsd.names) + [
        f"{name} with {part}" for name, part in PARTS if not any(part in packet for packet in statsd.of(name))
    ]


def leave_pod_behind(whole: WholeAirflow) -> str:
    """Create a pod of this Airflow whose task is not in its database, and return its name."""
    found: list[Any] = []

    def is_known() -> bool:
        found[:] = whole.airflow.query("SELECT val FROM variable WHERE key = :key", key=VARIABLE)
        return bool(found)

    whole.until("the installation's id", is_known)
    task, installation = identity(), found[0][0]
    wanted = manifest(task, "sleep 600", namespace=whole.namespace)
    created = whole.wait(lifecycle.ensure_pod(whole.client, wanted, owner(task, installation=installation)))
    return str(created["metadata"]["name"])


def freeze(whole: WholeAirflow, component: str, seconds: float) -> None:
    """Stop all processes of a component for a moment, as a starved machine does."""
    program = whole.airflow.program(component)
    program.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    program.send_signal(signal.SIGCONT)
