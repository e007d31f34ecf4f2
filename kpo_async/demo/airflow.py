"""A whole Airflow in a temporary home: API server, scheduler with LocalExecutor, dag-processor, triggerers.

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
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy.pool import NullPool

from kpo_async.compat import Self
from kpo_async.demo.processes import Program, ProgramError, stop_all

STOP_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL. After SIGTERM a scheduler waits for the tasks it runs."""
START_TIMEOUT = 180.0
NO_CONTENT = 204
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

    components: Mapping[str, str] = {name: name for name in ("api-server", "scheduler", "dag-processor", "triggerer")}
    """The command of Airflow that each component runs, by the component's name."""

    def __init__(
        self,
        dags: Path,
        *,
        parallelism: int = 4,
        environment: Mapping[str, str] | None = None,
        database: str | None = None,
        python: Path | None = None,
    ) -> None:
        """`dags`: the folder of DAG files; `parallelism`: worker slots; `environment`: variables for all components.

        `database`: the SQLAlchemy URL of a database that has Airflow's tables; by default a new sqlite file. `python`:
        the interpreter that runs Airflow, by default this one.
        """
        self._python = python or Path(sys.executable)
        self._dags = dags
        self._parallelism = parallelism
        self._extra = dict(environment or {})
        self._database = database
        self._programs: dict[str, Program] = {}
        self._token = ""
        self.timings: dict[str, float] = {}
        """Seconds that each step of the start took."""

    async def __aenter__(self) -> Self:
        self.home = Path(tempfile.mkdtemp(prefix="kpo-async-airflow-"))
        self._api, *log_ports = free_ports(3)
        self.environment = self._environment(*log_ports)
        url = self._database or f"sqlite:///{self.home}/airflow.db?timeout=30"
        self._engine = sqlalchemy.create_engine(url, poolclass=NullPool)
        settings = self.home / "config" / "airflow_local_settings.py"
        settings.parent.mkdir()
        settings.write_text(self.local_settings())
        try:
            if not self._database:
                with self._timed("database"):
                    await self._run_to_end("db", "migrate")
            with self._timed("components"):
                for component in self.components:
                    await self.start(component)
                async for _ in self.ticks("Airflow to be healthy", START_TIMEOUT):
                    if await asyncio.to_thread(self.healthy):
                        break
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
        """Return a running component. Raise `KeyError` if it does not run."""
        return self._programs[component]

    async def start(self, component: str) -> None:
        """Start a component that is not running."""
        self._programs[component] = await self._start(component, *self.components[component].split())

    async def stop(self, component: str, grace: float) -> None:
        """Send SIGTERM to a component, and SIGKILL after `grace` seconds."""
        await self._programs.pop(component).stop(grace)

    async def kill(self, component: str) -> None:
        """Kill a component and all its processes at once, as the loss of its machine would."""
        await self._programs.pop(component).kill()

    async def restart(self, component: str, grace: float = 0.0) -> None:
        """Stop a component, kill it after `grace` seconds, and start it again."""
        await self.stop(component, grace)
        await self.start(component)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all components so far, including every task they have run."""
        return sum(program.cpu_seconds() for program in self._programs.values())

    async def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run of `dag_id` as soon as the dag-processor has parsed it."""
        async for _ in self.ticks(f"the DAG {dag_id} to be parsed", 120):
            if self.query("SELECT 1 FROM serialized_dag WHERE dag_id = :dag_id", dag_id=dag_id):
                break
            for name, trace in self.query("SELECT filename, stacktrace FROM import_error"):
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

    async def set_run_state(self, run: DagRun, state: str) -> None:
        """Set a run's state as a user does on the page: "failed" or "success"."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}"
        await asyncio.to_thread(self.request, path, {"state": state}, method="PATCH")

    async def clear(self, run: DagRun, task: TaskInstance) -> None:
        """Clear a task instance, whatever its state, as a user does on the page."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run.run_id,
            "task_ids": [[task.task_id, task.map_index] if task.map_index >= 0 else task.task_id],
        }
        await asyncio.to_thread(self.request, f"/api/v2/dags/{run.dag_id}/clearTaskInstances", body)

    async def shown_log(self, run: DagRun, task: TaskInstance, try_number: int = 1) -> list[str]:
        """Return the lines of one try's log that the task's page shows."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task.task_id}/logs/{try_number}"
        page = await asyncio.to_thread(self.request, f"{path}?map_index={task.map_index}&full_content=true")
        return [line if isinstance(line, str) else str(line["event"]) for line in page["content"]]

    async def finished(self, run: DagRun, timeout: float) -> str:
        """Wait until the run has ended; return "success" or "failed"."""
        async for _ in self.ticks(f"the run {run.run_id} of {run.dag_id} to end", timeout):
            if (state := self.run_state(run)) in ("success", "failed"):
                return state
        raise AssertionError

    def run_state(self, run: DagRun) -> str:
        """Return the state of the run as a whole."""
        rows = self.query("SELECT state FROM dag_run WHERE dag_id = :dag_id AND run_id = :run_id", **asdict(run))
        return str(rows[0][0]) if rows else "unknown"

    def task_instances(self, run: DagRun) -> list[TaskInstance]:
        """Return all task instances of the run; of a mapped task, those that have been expanded."""
        rows = self.query(
            "SELECT task_id, map_index, try_number, state FROM task_instance"
            " WHERE dag_id = :dag_id AND run_id = :run_id ORDER BY task_id, map_index",
            **asdict(run),
        )
        return [TaskInstance(*row) for row in rows]

    def task_states(self, run: DagRun) -> Counter[str]:
        """Count the task instances by state; "none" is one that the scheduler has not looked at."""
        return Counter(instance.state or "none" for instance in self.task_instances(run))

    def xcom(self, run: DagRun, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return a value from XCom. Raise `LookupError` when there is none."""
        statement = sqlalchemy.text(
            "SELECT value FROM xcom WHERE dag_id = :dag_id AND run_id = :run_id"
            " AND task_id = :task_id AND key = :key AND map_index = :map_index"
        ).columns(value=sqlalchemy.JSON())
        rows = self.query(statement, **asdict(run), task_id=task_id, key=key, map_index=map_index)
        if not rows:
            raise LookupError(f"{task_id} has pushed no {key}")
        return rows[0][0]

    def logs(self, run: DagRun, task: TaskInstance, try_number: int | None = None) -> list[dict[str, Any]]:
        """Return the log records of one or all tries of a task, including the triggerer's, ordered by time."""
        folder = Path(f"dag_id={run.dag_id}", f"run_id={run.run_id}", f"task_id={task.task_id}")
        if task.map_index >= 0:
            folder /= f"map_index={task.map_index}"
        attempts = f"attempt={try_number or '*'}.log*"
        files = {file for name in self.components for file in (self.log_folder(name) / folder).glob(attempts)}
        records = [json.loads(line) for file in files for line in file.read_text().split("\n") if line]
        return sorted(records, key=lambda record: str(record.get("timestamp")))

    def error(self, run: DagRun, task: TaskInstance, try_number: int | None = None) -> str:
        """Return the last error in the logs of one or all tries of a task, on one line."""
        for record in reversed(self.logs(run, task, try_number)):
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
            return json.load(response) if response.status != NO_CONTENT else None

    def query(self, statement: str | sqlalchemy.Executable, **parameters: Any) -> list[tuple[Any, ...]]:
        """Return the rows that its database answers; `parameters` are the statement's `:names`."""
        if isinstance(statement, str):
            statement = sqlalchemy.text(statement)
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement, parameters)]

    async def ticks(self, what: str, timeout: float, interval: float = POLL) -> AsyncIterator[None]:
        """Yield every `interval` seconds, for polling.

        Raise `ProgramError` after `timeout` seconds, or when a component has ended by itself.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            yield
            for program in self._programs.values():
                program.check()
            await asyncio.sleep(interval)
        raise ProgramError(f"Timed out after {timeout:.0f} s waiting for {what}")

    def healthy(self) -> bool:
        """Return whether every component has reported a heartbeat."""
        try:
            health = self.request("/api/v2/monitor/health")
        except (OSError, ValueError):
            return False
        return all(part["status"] == "healthy" for part in health.values())

    def local_settings(self) -> str:
        """Return the text of `airflow_local_settings.py`, which every component imports first."""
        return ""

    def environment_of(self, component: str) -> Mapping[str, str]:
        """Return the environment variables of one component."""
        return self.environment

    def log_folder(self, component: str) -> Path:
        """Return the folder in which a component writes the logs of tasks."""
        return self.home / "logs"

    def _environment(self, worker_log_port: int, trigger_log_port: int) -> dict[str, str]:
        return {
            **callers_environment(),
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
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **({"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._database} if self._database else {}),
            **self._extra,
        }

    async def _start(self, name: str, *command: str) -> Program:
        executable = [str(self._python), "-m", "airflow", *command]
        return await Program.start(name, executable, self.environment_of(name), self.home / f"{name}.log")

    async def _run_to_end(self, *command: str) -> None:
        self._programs["migration"] = await self._start("migration", *command)
        await self._programs["migration"].finished()
        del self._programs["migration"]

    @contextlib.contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.timings[step] = time.monotonic() - start


def callers_environment() -> dict[str, str]:
    """Return this process's environment without the settings of another Airflow or cluster."""
    # PYTHONDONTWRITEBYTECODE would make every start compile.
    foreign = ("AIRFLOW", "PYTHONDONTWRITEBYTECODE", "KUBECONFIG")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def free_ports(count: int) -> list[int]:
    """Return free ports of the loopback interface."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
