"""Start a PostgreSQL server with Airflow's tables: Debian's programs, an ordinary user, a free loopback port.

Creating Airflow's tables takes longer than the rest of the start. So the data of a server with these tables is kept in
the virtual environment, and each server starts from a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

from kpo_async.compat import timeout
from kpo_async.demo.airflow import callers_environment, free_ports
from kpo_async.demo.processes import Program, ProgramError

NOBODY = 65534
"""User and group id of PostgreSQL when root runs the tests, because it refuses to run as root."""
USER = "airflow"
START_TIMEOUT = 30.0
STOP_GRACE = 20.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    # The data need not survive the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@contextlib.asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """Start a server; yield the SQLAlchemy URL of its database, which has Airflow's tables.

    Raise `ProgramError` when PostgreSQL is not installed or does not start.
    """
    prepared = Path(sys.prefix) / f".postgres-{programs().parent.name}-airflow-{version('apache-airflow-core')}"
    if not prepared.exists():
        await _prepare(prepared)
    with _folder() as folder:
        await asyncio.to_thread(shutil.copytree, prepared, folder / "data")
        async with _server(folder) as url:
            yield url


async def _prepare(prepared: Path) -> None:
    """Create a server with Airflow's tables, stop it, and keep its data as the folder `prepared`."""
    with _folder() as folder, tempfile.TemporaryDirectory(dir=prepared.parent) as part:
        initdb = [
            str(programs() / "initdb"),
            "--no-sync",
            "-D",
            f"{folder}/data",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C",
        ]
        await (await _start(folder, _as_ordinary_user(initdb))).finished()
        async with _server(folder) as url:
            settings = {"AIRFLOW_HOME": f"{folder}/airflow", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
            await (await _start(folder, [sys.executable, "-m", "airflow", "db", "migrate"], **settings)).finished()
        data = shutil.copytree(folder / "data", Path(part) / "data")
        with contextlib.suppress(OSError):  # another run was faster
            data.rename(prepared)


@contextlib.asynccontextmanager
async def _server(folder: Path) -> AsyncIterator[str]:
    """Run a server on the data in `folder`; yield the URL of its database."""
    (port,) = free_ports(1)
    settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(folder)}
    command = [str(programs() / "postgres"), "-D", f"{folder}/data"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    _give_to_ordinary_user(folder)
    server = await _start(folder, _as_ordinary_user(command))
    try:
        async with timeout(START_TIMEOUT):
            while not _is_ready(folder / "data"):
                server.check()
                await asyncio.sleep(0.05)
        yield f"postgresql+psycopg2://{USER}@127.0.0.1:{port}/postgres"
    finally:
        await asyncio.shield(server.stop(STOP_GRACE))


def _is_ready(data: Path) -> bool:
    """Return whether the server accepts connections."""
    with contextlib.suppress(FileNotFoundError):
        return (data / "postmaster.pid").read_text().split()[-1:] == ["ready"]
    return False


async def _start(folder: Path, command: list[str], **environment: str) -> Program:
    name = Path(command[-1] if command[0] == sys.executable else command[0]).name
    return await Program.start(name, command, {**callers_environment(), **environment}, folder / f"{name}.log")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kpo-async-postgres-", ignore_cleanup_errors=True) as folder:
        _give_to_ordinary_user(Path(folder))
        yield Path(folder)


def programs() -> Path:
    """Return the folder of PostgreSQL's programs; Debian has one per version, off the path.

    Raise `ProgramError` when PostgreSQL is not installed.
    """
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        raise ProgramError("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return folders[-1]


def _as_ordinary_user(command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def _give_to_ordinary_user(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
