"""Observe the demo from outside: one `Sample` per tick.

Pods come from the demo's own watch, so that a sample costs no request; task instances from Airflow's database;
requests from the API server's metrics, minus the demo's own watch; log lines from Airflow's log files.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kpo_async.demo.airflow import Airflow, DagRun
from kpo_async.demo.cluster import Cluster, Traffic
from kpo_async.kube.watch import Apply, Delete, Init, InitApply, InitDone, Watcher

TICK = 0.5
"""Seconds between two samples."""
ENDED = ("success", "failed")
"""The states of a run that has ended."""
DELETION = 15.0
"""Seconds to look on after the run's end: the last pods are deleted when Airflow has stored their tasks' ends."""
GONE = "gone"
"""The phase shown for a pod that has been deleted."""


@dataclass(frozen=True)
class Sample:
    """The state of everything, `elapsed` seconds after the DAG was triggered."""

    elapsed: float
    pods: Counter[str]
    """Pods by phase."""
    tasks: Counter[str]
    """Task instances by state; "none" is one that the scheduler has not looked at."""
    traffic: Traffic | None
    log_lines: int
    run: str = "running"
    """The state of the DAG's run."""
    faults: tuple[str, ...] = ()
    """The faults injected so far, the oldest first."""

    @property
    def slots(self) -> int:
        """Worker slots held: every running task instance holds one."""
        return self.tasks["running"]

    @property
    def pods_left(self) -> int:
        """Pods that have not been deleted."""
        return self.pods.total() - self.pods[GONE]


def duration(samples: Sequence[Sample]) -> float:
    """Return the seconds from the DAG's trigger to the end of its run."""
    return next((sample.elapsed for sample in samples if sample.run in ENDED), samples[-1].elapsed)


@dataclass
class _LogCounter:
    """Counts the lines of all log files of a run, reading each byte once."""

    folder: Path
    lines: int = 0
    _offsets: dict[Path, int] = field(default_factory=dict)

    def count(self) -> int:
        for path in self.folder.glob("**/attempt=*"):
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                self.lines += file.read().count(b"\n")
                self._offsets[path] = file.tell()
        return self.lines


class Observer:
    """Watches one run of the demo's DAG."""

    def __init__(self, airflow: Airflow, cluster: Cluster, run: DagRun, *, faults: bool = False) -> None:
        self._airflow = airflow
        self._cluster = cluster
        self._run = run
        self._show_faults = faults
        self._phases: dict[str, str] = {}
        self._traffic: Traffic | None = None
        self._logs = _LogCounter(airflow.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}")

    async def samples(self, timeout: float) -> AsyncIterator[Sample]:
        """Yield a sample every `TICK` until the run has ended and its pods are gone, or not in time for `DELETION`.

        Raise `ProgramError` if the run has not ended after `timeout` seconds.
        """
        start = time.monotonic()
        before = await self._cluster.traffic()
        watching = asyncio.create_task(self._watch_pods(), name="demo's own watch")
        try:
            end = math.inf
            async for _ in self._airflow.ticks("the run to end", timeout + DELETION, TICK):
                sample = await self._sample(time.monotonic() - start, before)
                yield sample
                if sample.run in ENDED:
                    end = min(end, sample.elapsed)
                    if not sample.pods_left or sample.elapsed > end + DELETION:
                        break
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _sample(self, elapsed: float, before: Traffic | None) -> Sample:
        run = self._airflow.run_state(self._run)
        now = await self._cluster.traffic()
        if now and before:
            # A watch counts as a request once it has ended, so the demo's own is only among the open ones.
            self._traffic = Traffic(now.requests - before.requests, max(now.watches - before.watches - 1, 0))
        tasks = await asyncio.to_thread(self._airflow.task_states, self._run)
        log_lines = await asyncio.to_thread(self._logs.count)
        faults = tuple(await asyncio.to_thread(self._cluster.faults)) if self._show_faults else ()
        return Sample(elapsed, Counter(self._phases.values()), tasks, self._traffic, log_lines, run, faults)

    async def _watch_pods(self) -> None:
        async with contextlib.aclosing(Watcher(self._cluster.client, self._cluster.namespace).events()) as events:
            listed: set[str] = set()
            async for event in events:
                if isinstance(event, Init):
                    listed = set()
                elif isinstance(event, InitApply):
                    listed.add(event.pod.metadata.uid)
                elif isinstance(event, InitDone):
                    self._phases |= dict.fromkeys(self._phases.keys() - listed, GONE)
                if isinstance(event, InitApply | Apply):
                    self._phases[event.pod.metadata.uid] = event.pod.status.phase or "Pending"
                elif isinstance(event, Delete):
                    self._phases[event.pod.metadata.uid] = GONE
