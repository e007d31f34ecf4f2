"""A whole Airflow in a temporary home: api-server, scheduler, dag-processor, triggerer; sqlite and LocalExecutor.

It needs no password, listens on random loopback ports only, and leaves nothing behind. Only what a single-user Airflow
needs is configured; whatever decides how tasks run keeps Airflow's default unless the caller changes it. The states of
task instances come from its database, because polling its API would be a load of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kpo_async.compat import Self
from kpo_async.demo.processes import Program, ProgramError, stop_all

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
STOP_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL. After SIGTERM a scheduler waits for the tasks it runs."""
POLL = 0.25
"""Seconds between two polls of its database or health page."""


@dataclass(frozen=True)
class TaskInstance:
    """One row of Airflow's table of task instances."""

    task_id: str
    map_index: int
    try_number: int
    state: str | None

    def __str__(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str


class Airflow:
    """A whole Airflow; `async with` starts and stops it."""

    def __init__(
        self,
        dags: Path,
        *,
        parallelism: int = 4,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        """`dags`: the folder of DAG files; `parallelism`: worker slots; `environment`: variables for all components.

        `preload`: modules to import in every component. The scheduler forks the tasks, so a task need not import
        again what the scheduler has imported.
        """
        self._dags = dags
        self._parallelism = parallelism
        self._preload = preload
        self._extra = dict(environment or {})
        self._programs: dict[str, Program] = {}
        self._token = ""
        self.timings: dict[str, float] = {}
        """Seconds that each step of the start took."""

    async def __aenter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="kpo-async-airflow-"))
        self._api, *log_ports = _free_ports(3)
        self.environment = self._environment(*log_ports)
        settings = self.home / "config" / "airflow_local_settings.py"
        settings.parent.mkdir()
        settings.write_text("".join(f"import {module}\n" for module in self._preload))
        try:
            with self._timed("database"):
                await self._run_to_end("db", "migrate")
            with self._timed("components"):
                for component in COMPONENTS:
                    self._programs[component] = await self._start(component, component)
                await self._healthy()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave components running; the grace bounds the time this takes.
        await asyncio.shield(stop_all(self._programs.values(), STOP_GRACE))
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        """The address of its web page."""
        return f"http://127.0.0.1:{self._api}"

    def program(self, component: str) -> Program:
        """Return one of `COMPONENTS`."""
        return self._programs[component]

    async def restart(self, component: str, grace: float = 0.0) -> None:
        """Stop one of `COMPONENTS`, kill it after `grace` seconds, and start it again."""
        await self._programs[component].stop(grace)
        self._programs[component] = await self._start(component, component)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all components so far, including every task they have run."""
        return sum(program.cpu_seconds() for program in self._programs.values())

    async def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run of `dag_id` as soon as the dag-processor has parsed it."""
        async for _ in self.ticks(f"the DAG {dag_id} to be parsed", 120):
            if self._query("SELECT 1 FROM serialized_dag WHERE dag_id = ?", dag_id):
                break
            for name, trace in self._query("SELECT filename, stacktrace FROM import_error"):
                if dag_id in (self._dags / name).read_text():
                    raise ProgramError(f"{name} cannot be imported:\n{trace}")
        body = {"logical_date": None, "conf": dict(conf or {})}
        answer = await asyncio.to_thread(self.request, f"/api/v2/dags/{dag_id}/dagRuns", body)
        return DagRun(dag_id, answer["dag_run_id"])

    async def set_state(self, run: DagRun, task: TaskInstance, state: str) -> None:
        """Set a task instance's state as a user does on the page: "failed" or "success"."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task.task_id}"
        path += f"/{task.map_index}" if task.map_index >= 0 else ""
        await asyncio.to_thread(self.request, path, {"new_state": state}, method="PATCH")

    async def finished(self, run: DagRun, timeout: float) -> str:
        """Wait until the run has ended; return "success" or "failed"."""
        async for _ in self.ticks(f"the run {run.run_id} of {run.dag_id} to end", timeout):
            if (state := self.run_state(run)) in ("success", "failed"):
                return state
        raise AssertionError

    def run_state(self, run: DagRun) -> str:
        """Return the state of the run as a whole."""
        rows = self._query("SELECT state FROM dag_run WHERE dag_id = ? AND run_id = ?", run.dag_id, run.run_id)
        return str(rows[0][0]) if rows else "unknown"

    def task_instances(self, run: DagRun) -> list[TaskInstance]:
        """Return all task instances of the run; of a mapped task, those that have been expanded."""
        rows = self._query(
            "SELECT task_id, map_index, try_number, state FROM task_instance WHERE dag_id = ? AND run_id = ?"
            " ORDER BY task_id, map_index",
            run.dag_id,
            run.run_id,
        )
        return [TaskInstance(*row) for row in rows]

    def task_states(self, run: DagRun) -> Counter[str]:
        """Count the task instances by state; "none" is one that the scheduler has not looked at."""
        return Counter(instance.state or "none" for instance in self.task_instances(run))

    def xcom(self, run: DagRun, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return a value from XCom. Raise `LookupError` when there is none."""
        rows = self._query(
            "SELECT value FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = ? AND key = ? AND map_index = ?",
            run.dag_id,
            run.run_id,
            task_id,
            key,
            map_index,
        )
        if not rows:
            raise LookupError(f"{task_id} has pushed no {key}")
        # sqlite keeps a JSON number as a number.
        return json.loads(rows[0][0]) if isinstance(rows[0][0], str) else rows[0][0]

    def logs(self, run: DagRun, task: TaskInstance) -> list[dict[str, Any]]:
        """Return the log records of all tries of a task, including the triggerer's, in the order of their time."""
        folder = self.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={task.task_id}"
        if task.map_index >= 0:
            folder /= f"map_index={task.map_index}"
        records = [json.loads(line) for path in folder.glob("attempt=*") for line in path.read_text().splitlines()]
        return sorted(records, key=lambda record: str(record.get("timestamp")))

    def error(self, run: DagRun, task: TaskInstance) -> str:
        """Return the last error in a task's logs, on one line."""
        for record in reversed(self.logs(run, task)):
            if details := record.get("error_detail"):
                return f"{details[0]['exc_type']}: {details[0]['exc_value']}"
            if record.get("level") in ("error", "critical"):
                return str(record.get("event"))
        return "no error in its log"

    def request(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """Send a request to its API: GET, or POST when there is a body. Raise `urllib.error.HTTPError`."""
        if body is not None and not self._token:
            self._token = self.request("/auth/token")["access_token"]
        request = urllib.request.Request(
            self.url + urllib.parse.quote(path, safe="/?=&"),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    async def ticks(self, what: str, timeout: float, interval: float = POLL) -> AsyncIterator[None]:
        """Yield every `interval` seconds, for polling.

        Raise `ProgramError` after `timeout` seconds, or when a component has ended.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            yield
            for component in COMPONENTS:
                if program := self._programs.get(component):
                    program.check()
            await asyncio.sleep(interval)
        raise ProgramError(f"Timed out after {timeout:.0f} s waiting for {what}")

    def _environment(self, trigger_log_port: int, worker_log_port: int) -> dict[str, str]:
        # Settings of the caller's own Airflow must not leak in; PYTHONDONTWRITEBYTECODE would make every start compile.
        foreign = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE", "KUBECONFIG")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags.resolve()),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self._parallelism),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self._api}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self._api),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **self._extra,
        }

    async def _start(self, name: str, *command: str) -> Program:
        executable = [sys.executable, "-m", "airflow", *command]
        return await Program.start(name, executable, self.environment, self.home / f"{name}.log")

    async def _run_to_end(self, *command: str) -> None:
        program = self._programs["migration"] = await self._start("migration", *command)
        await program.finished()

    async def _healthy(self) -> None:
        """Wait until every component has reported a heartbeat."""
        async for _ in self.ticks("Airflow to be healthy", 180):
            with contextlib.suppress(OSError, ValueError):
                health = await asyncio.to_thread(self.request, "/api/v2/monitor/health")
                if all(part["status"] == "healthy" for part in health.values()):
                    return

    def _query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=30)
        with contextlib.closing(database):
            return database.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.timings[step] = time.monotonic() - start


def _free_ports(count: int) -> list[int]:
    """Return free ports of the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
