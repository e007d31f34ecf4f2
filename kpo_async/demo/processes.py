"""Run programs beside this process, each in a session of its own.

A process stays in its session after `setpgid`, which Airflow's supervisors call for every task they fork, and after its
parent has died. So a program and all its descendants are the processes of its session; only `setsid` leaves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

KILL_TIMEOUT = 5.0
"""Seconds to wait until a killed process is gone."""


class ProgramError(Exception):
    """A program ended, or did not become ready."""


class Program:
    """A started program. `log` is the file that receives its output."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Program:
        """Start `command`; its standard output and error are appended to `log`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The process id, which is also the session's id."""
        return self._process.pid

    def members(self) -> list[psutil.Process]:
        """Return every living process of its session."""
        return [process for process in psutil.process_iter() if _session(process.pid) == self.pid]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its living processes and of the children they have waited for."""
        return sum(sum(process.cpu_times()[:4]) for process in self.members() if process.is_running())

    async def finished(self) -> None:
        """Wait until it has ended. Raise `ProgramError` if it failed."""
        if await self._process.wait() != 0:
            raise self.death()

    def check(self) -> None:
        """Raise `ProgramError` if it has ended."""
        if self._process.returncode is not None:
            raise self.death()

    def death(self) -> ProgramError:
        """Return an error that describes its end, with the last lines it printed."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        text = "\n    ".join(lines)
        return ProgramError(f"{self.name} ended with {self._process.returncode}; its last lines were\n    {text}")

    async def stop(self, grace: float) -> None:
        """Send SIGTERM; after `grace` seconds kill its whole session."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace)
        await self.kill()

    async def kill(self) -> None:
        """Kill its whole session."""
        members = self.send_signal(signal.SIGKILL)
        await self._process.wait()
        await asyncio.to_thread(psutil.wait_procs, members, KILL_TIMEOUT)

    def send_signal(self, number: signal.Signals) -> list[psutil.Process]:
        """Send a signal to every process of its session; return the processes."""
        members = self.members()
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return members


async def stop_all(programs: Iterable[Program], grace: float) -> None:
    """Stop all programs concurrently."""
    await asyncio.gather(*(program.stop(grace) for program in programs))


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
