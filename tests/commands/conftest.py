"""The real command as a process of its own, on a host with a cluster but without Airflow's database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpo_async.localcluster.cluster import LocalCluster

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        """The only line of stderr."""
        (line,) = self.err.splitlines()
        return line


PROGRAM = [sys.executable, "-m", "kpo_async.cli"]
if os.environ.get("COVERAGE_RUN"):  # `coverage run` sets it
    PROGRAM[2:2] = ["coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}", "-m"]


class CommandLine:
    """Runs `kpo-async`. `environment` comes on top of that of an Airflow that was never set up."""

    def __init__(self, home: Path) -> None:
        foreign = ("AIRFLOW", "KUBECONFIG", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = {**kept, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}

    async def start(self, *words: object, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *PROGRAM,
            *map(str, words),
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *words: object) -> Ran:
        return await ended(await self.start(*words))


async def ended(program: asyncio.subprocess.Process) -> Ran:
    out, err = await program.communicate()
    assert program.returncode is not None
    return Ran(program.returncode, out.decode(), err.decode())


async def interrupted(program: asyncio.subprocess.Process) -> Ran:
    """End a program as Ctrl-C does."""
    program.send_signal(signal.SIGINT)
    return await ended(program)


Run = Callable[..., Coroutine[Any, Any, Ran]]


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "airflow")


@pytest.fixture
def on_cluster(command_line: CommandLine, local_cluster: LocalCluster) -> Run:
    """Runs a subcommand on the embedded cluster, which needs nothing of Airflow."""

    async def run(subcommand: str, *words: object) -> Ran:
        return await command_line(subcommand, *words, "--kubeconfig", local_cluster.kubeconfig)

    return run
