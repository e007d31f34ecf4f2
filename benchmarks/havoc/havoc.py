"""Kills, freezes, restarts, evictions and users, at random, against a whole Airflow and its cluster.

Four loops run side by side, one for each kind of trouble, so that troubles meet. Each writes a line before it acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import psutil

from havoc.witness import Seen, Witness
from kpo_async.demo.airflow import DagRun, TaskInstance
from kpo_async.demo.cluster import Cluster
from kpo_async.exceptions import ApiError
from tests.deployments.airflow import TRIGGERERS, Deployment

Action = Callable[[], Awaitable[None]]
TASK_TITLE = re.compile(r"airflow worker -- ([0-9a-f-]{36})")
"""The title of a process that runs a task: the id of the task instance."""


MISSED = (ApiError, OSError, psutil.Error, KeyError)
"""What an action meets whose target has ended, or whose API server or scheduler is away."""


@dataclass(frozen=True)
class Row:
    """A task instance now. `id` is another one for each try."""

    id: str
    run: DagRun
    task: TaskInstance
    state: str


class Havoc:
    """The troubles, and the tries whose verdict they excuse.

    `excused`: ids of task instances (one per try) whose worker was killed or frozen, or which a user ended or cleared.
    `marked`: the state that a user gave a task, by run and task.
    """

    def __init__(self, airflow: Deployment, cluster: Cluster, witness: Witness, chance: random.Random) -> None:
        self._airflow = airflow
        self._cluster = cluster
        self._witness = witness
        self._chance = chance
        self._start = time.monotonic()
        self.counts: Counter[str] = Counter()
        self.excused: set[str] = set()
        self.marked: dict[tuple[str, str], str] = {}

    async def rage(self, seconds: float) -> None:
        """Make trouble for so long; what was killed or frozen works again at the end."""
        kinds = [
            (10, 25, [self._kill_triggerer, self._freeze_triggerer, self._restart_triggerer, self._kill_both]),
            (5, 15, [self._kill_task, self._kill_task, self._freeze_task, self._kill_worker]),
            (60, 120, [self._restart_scheduler]),
            (4, 10, [self._delete_pod, self._evict_pod]),
            (4, 10, [self._mark_failed, self._mark_success, self._clear, self._clear]),
        ]
        if command := os.environ.get("KPO_CLUSTER_COMMAND"):
            kinds.append((60, 90, [partial(self._restart_api_server, command)]))
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._repeat(*pauses, actions, end) for *pauses, actions in kinds))

    async def _repeat(self, shortest: float, longest: float, actions: Sequence[Action], end: float) -> None:
        """Take one of the actions after each pause."""
        while (pause := self._chance.uniform(shortest, longest)) < end - time.monotonic():
            await asyncio.sleep(pause)
            with contextlib.suppress(*MISSED):
                await self._chance.choice(actions)()

    def _say(self, what: str, whom: str = "") -> None:
        self.counts[what] += 1
        print(f"{time.monotonic() - self._start:7.1f}  {what}{': ' if whom else ''}{whom}", flush=True)

    # Triggerers

    async def _kill_triggerer(self) -> None:
        name = self._chance.choice(TRIGGERERS)
        self._say("triggerer killed", name)
        await self._airflow.kill(name)
        await asyncio.sleep(self._chance.uniform(1, 40))
        await self._airflow.start(name)

    async def _kill_both(self) -> None:
        self._say("both triggerers killed")
        for name in TRIGGERERS:
            await self._airflow.kill(name)
        with contextlib.suppress(*MISSED):
            await self._mark_failed()
        await asyncio.sleep(self._chance.uniform(1, 40))
        for name in TRIGGERERS:
            await self._airflow.start(name)

    async def _restart_triggerer(self) -> None:
        name = self._chance.choice(TRIGGERERS)
        self._say("triggerer restarted by SIGTERM", name)
        await self._airflow.restart(name, grace=15)

    async def _freeze_triggerer(self) -> None:
        name = self._chance.choice(TRIGGERERS)
        self._say("triggerer frozen", name)
        self._airflow.program(name).send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._chance.uniform(5, 60))
        self._airflow.program(name).send_signal(signal.SIGCONT)

    # Workers and their scheduler

    async def _kill_task(self) -> None:
        for task in self._pick_task():
            self._say("task's process killed")
            task.kill()

    async def _kill_worker(self) -> None:
        # The scheduler learns of it from missing heartbeats only.
        for task in self._pick_task():
            self._say("worker killed with its task")
            for process in (task.parent(), task):
                if process:
                    process.kill()

    async def _freeze_task(self) -> None:
        for task in self._pick_task():
            self._say("task's process frozen")
            task.suspend()
            await asyncio.sleep(self._chance.uniform(2, 15))
            with contextlib.suppress(psutil.NoSuchProcess):
                task.resume()

    async def _restart_scheduler(self) -> None:
        self._say("scheduler killed with its workers")
        self.excused |= {row.id for row in self._task_instances("running", "queued")}
        await self._airflow.kill("scheduler")
        await self._airflow.start("scheduler")

    def _pick_task(self) -> list[psutil.Process]:
        """Return a process that runs a task, as a list of at most one; its try is excused from now on."""
        tasks = {}
        for process in self._airflow.program("scheduler").members():
            with contextlib.suppress(psutil.NoSuchProcess):
                if match := TASK_TITLE.match(" ".join(process.cmdline())):
                    tasks[match[1]] = process
        if not tasks:
            return []
        task_instance_id = self._chance.choice(sorted(tasks))
        self.excused.add(task_instance_id)
        return [tasks[task_instance_id]]

    # Pods and users

    async def _delete_pod(self) -> None:
        for seen in self._pick_pod():
            self._say("pod deleted", seen.name)
            await self._cluster.client.delete("pods", seen.name, self._cluster.namespace)

    async def _evict_pod(self) -> None:
        for seen in self._pick_pod():
            self._say("pod evicted", seen.name)
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": seen.name}}
            await self._cluster.client.create("pods/eviction", body, self._cluster.namespace)

    def _pick_pod(self) -> list[Seen]:
        running = [seen for seen in self._witness.pods.values() if seen.running]
        picked = self._chance.sample(running, min(1, len(running)))
        for seen in picked:
            seen.disrupted = True
        return picked

    async def _mark_failed(self) -> None:
        await self._mark("failed")

    async def _mark_success(self) -> None:
        await self._mark("success")

    async def _mark(self, state: str) -> None:
        for row in self._pick_task_instance():
            self._say(f"task marked {state} while {row.state}", f"{row.run.run_id} {row.task.task_id}")
            await self._airflow.set_state(row.run, row.task, state)
            self.marked[row.run.run_id, row.task.task_id] = state

    async def _clear(self) -> None:
        for row in self._pick_task_instance():
            self._say(f"task cleared while {row.state}", f"{row.run.run_id} {row.task.task_id}")
            await self._airflow.clear(row.run, row.task)
            self.marked.pop((row.run.run_id, row.task.task_id), None)

    def _pick_task_instance(self) -> list[Row]:
        rows = self._task_instances("running", "deferred")
        picked = self._chance.sample(rows, min(1, len(rows)))
        self.excused |= {row.id for row in picked}
        return picked

    def _task_instances(self, *states: str) -> list[Row]:
        rows = self._airflow.query("SELECT id, dag_id, run_id, task_id, try_number, state FROM task_instance")
        return [
            Row(str(id_), DagRun(dag_id, run_id), TaskInstance(task_id, -1, number, state), state)
            for id_, dag_id, run_id, task_id, number, state in rows
            if state in states
        ]

    # The cluster's API server

    async def _restart_api_server(self, command: str) -> None:
        self._say("API server killed")
        for verb in ("kill", "start"):
            process = await asyncio.create_subprocess_exec(
                command, verb, "apiserver", stdout=asyncio.subprocess.DEVNULL
            )
            await process.wait()
            if verb == "kill":
                await asyncio.sleep(self._chance.uniform(2, 20))
