"""Run one DAG in a whole Airflow and measure what it takes, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from kpo_async.demo.airflow import Airflow, DagRun
from kpo_async.demo.cluster import Cluster
from kpo_async.demo.processes import Program
from kpo_async.kube.watch import Apply, Delete, Init, InitApply, Watcher

TICK = 0.5
STALL = re.compile(r"async thread was blocked for (\d+\.\d+) seconds")
"""Airflow's own warning, from 0.2 s on."""


@dataclass
class Result:
    """What one run took."""

    row: str
    tasks: int
    seconds: float
    """How long each pod or timer runs."""
    makespan: float = 0.0
    """Seconds from the trigger of the DAG to its end."""
    failed: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of CPU by component."""
    requests: dict[str, int] = field(default_factory=dict)
    """Requests about pods that the API server answered, by verb, all clients together."""
    stalls: list[float] = field(default_factory=list)
    """Seconds for which the triggerer's event loop was blocked, from 0.2 s on."""
    samples: list[dict[str, float]] = field(default_factory=list)
    """Every half second: `at`, `pods` that run, `deferred` tasks, `slots` held."""

    def most(self, what: str) -> int:
        """Return the highest number of a sample's pods, deferred tasks or slots."""
        return int(max((sample[what] for sample in self.samples), default=0))

    @property
    def slot_seconds(self) -> float:
        """Worker slots held, summed up over time."""
        return sum(sample["slots"] for sample in self.samples) * TICK

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


async def measure(row: str, seconds: float, airflow: Airflow, cluster: Cluster, timeout: float) -> Result:
    """Run the DAG `row` once."""
    log = airflow.program("triggerer").log
    logged = log.stat().st_size
    async with _running_pods(cluster) as phases:
        before, cpu, start = await cluster.traffic(), cpu_by_component(airflow), time.monotonic()
        run = await airflow.trigger(row)
        result = Result(row, 0, seconds)
        async for _ in airflow.ticks(f"the run of {row} to end", timeout, TICK):
            state, tasks = await asyncio.to_thread(_states, airflow, run)
            at = time.monotonic() - start
            running = sum(phase == "Running" for phase in phases.values())
            slots = tasks["running"] + tasks["restarting"]
            result.samples.append({"at": at, "pods": running, "deferred": tasks["deferred"], "slots": slots})
            if state in ("success", "failed"):
                break
        result.makespan = time.monotonic() - start
        result.cpu = {name: used - cpu[name] for name, used in cpu_by_component(airflow).items()}
        after = await cluster.traffic()
    result.tasks = tasks.total()
    result.failed = result.tasks - tasks["success"]
    if before and after:
        result.requests = dict(after.requests - before.requests)
    with log.open("rb") as file:
        file.seek(logged)
        result.stalls = [float(found) for found in STALL.findall(file.read().decode(errors="replace"))]
    return result


def _states(airflow: Airflow, run: DagRun) -> tuple[str, Counter[str]]:
    rows = airflow.query(
        "SELECT state, count(*) FROM task_instance WHERE dag_id = :dag_id AND run_id = :run_id GROUP BY state",
        **asdict(run),
    )
    return airflow.run_state(run), Counter({state or "none": count for state, count in rows})


def cpu_by_component(airflow: Airflow) -> dict[str, float]:
    """Return the CPU seconds that Airflow's processes have used so far. A component's own process and its children
    count apart: a scheduler's are its workers, a triggerer's run the triggers.
    """
    found = {}
    for name, children in (
        ("api-server", ""),
        ("scheduler", "workers"),
        ("triggerer", "triggers"),
        ("dag-processor", ""),
    ):
        program = airflow.program(name)
        total, own = program.cpu_seconds(), _own(program)
        found[name] = own if children else total
        if children:
            found[children] = total - own
    return found


def _own(program: Program) -> float:
    return sum(psutil.Process(program.pid).cpu_times()[:2])


@contextlib.asynccontextmanager
async def _running_pods(cluster: Cluster) -> AsyncIterator[dict[str, str]]:
    """Yield the phases of the cluster's pods by UID, kept up to date by a watch."""
    phases: dict[str, str] = {}

    async def watch() -> None:
        async with contextlib.aclosing(Watcher(cluster.client, cluster.namespace).events()) as events:
            async for event in events:
                if isinstance(event, Init):
                    phases.clear()
                elif isinstance(event, InitApply | Apply):
                    phases[event.pod.metadata.uid] = event.pod.status.phase or "Pending"
                elif isinstance(event, Delete):
                    phases.pop(event.pod.metadata.uid, None)

    watching = asyncio.create_task(watch(), name="watch of the benchmark")
    try:
        yield phases
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
