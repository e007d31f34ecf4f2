"""Airflow's database for tests, and a triggerer: all that tasks need which run in this process.

The database is a sqlite file of its own, so tests change nothing of the Airflow that is configured. Everything else is
as configured: plugins, local settings, `airflow.cfg`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import airflow

from kpo_async.compat import Self

STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL for the triggerer."""


class TestAirflow:
    """An Airflow without scheduler, API server and dag-processor; `with` points this process at its database."""

    __test__ = False  # it is no test, whatever its name begins with

    def __init__(self, home: Path, cache: Path, connections: Mapping[str, str]) -> None:
        """`home`: a folder for database and logs. `cache`: a folder that outlives the session. `connections`: by id."""
        self._home = home
        self._cache = cache
        self._connections = connections
        self._stack = ExitStack()
        self._triggerer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            database = self._home / "airflow.db"
            shutil.copyfile(self._empty_database(), database)
            stack.enter_context(_environment(self._variables(database)))
            stack.enter_context(_orm())
            stack.callback(self._stop_triggerer)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ensure_triggerer(self) -> None:
        """Start the triggerer if it does not run. Raises `RuntimeError` if it has ended by itself."""
        output = self._home / "triggerer.log"
        if self._triggerer is None:
            command = [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"]
            # Callbacks and cluster hooks are imported there as they are here.
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            with output.open("wb") as log:
                self._triggerer = subprocess.Popen(
                    command, env={**os.environ, "PYTHONPATH": path}, stdout=log, stderr=log, start_new_session=True
                )
        elif (code := self._triggerer.poll()) is not None:
            end = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"The triggerer ended with {code}; its last lines were\n{end}")

    def log_records(self, *folders: str) -> Iterator[Mapping[str, Any]]:
        """Yield what the triggerer has written into a task's log."""
        for file in sorted(self._home.joinpath("logs", *folders).glob("attempt=*.log*")):
            # Not by `splitlines`: a record may have other line separators in it.
            with file.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)

    def _empty_database(self) -> Path:
        """Return a database with Airflow's tables and nothing in them; making one takes long."""
        cached = self._cache / f"airflow-{airflow.__version__}.db"
        if not cached.exists():
            new = self._home / "new.db"
            subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env={**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{new}"},
                check=True,
                capture_output=True,
            )
            shutil.move(new, cached.with_suffix(f".{os.getpid()}"))
            cached.with_suffix(f".{os.getpid()}").replace(cached)
        return cached

    def _variables(self, database: Path) -> dict[str, str]:
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=30",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"sqlite+aiosqlite:///{database}?timeout=30",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self._home / "logs"),
            "AIRFLOW__LOGGING__REMOTE_LOGGING": "False",
            # No worker process has to be noticed as ended before its task is queued again.
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
            # Before 3.3, the API that tasks and triggers use in their own process needs one.
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__KPO_ASYNC__INSTALLATION": f"test-{secrets.token_hex(4)}",
            "AIRFLOW__KPO_ASYNC__RECONCILE": "False",
            **{f"AIRFLOW_CONN_{name.upper()}": connection for name, connection in self._connections.items()},
        }

    def _stop_triggerer(self) -> None:
        if self._triggerer is None:
            return
        self._triggerer.terminate()
        try:
            self._triggerer.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._triggerer.pid, 9)
            self._triggerer.wait()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _orm() -> Iterator[None]:
    """Have Airflow's models use the database that the environment names."""
    from airflow import settings

    settings.configure_vars()
    settings.reconfigure_orm()
    try:
        yield
    finally:
        settings.dispose_orm()
