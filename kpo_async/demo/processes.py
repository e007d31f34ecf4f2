"""Programs that run beside us, each in a session of its own.

A session survives `setpgid`, which Airflow's supervisors do to every task they fork, and the death of a parent: "all of
this program" is "every process in its session", and only `setsid` slips out.
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
"""Seconds a killed process may take to be gone."""


class ProgramError(Exception):
    """A program beside us ended, or did not get ready."""


class Program:
    """One started program. `log` gets what it prints."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(cls, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Program:
        """Start `command`; its standard output and error go to `log`."""
        with log.open("wb") as output:
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
        """Its process id, which is its session's id too."""
        return self._process.pid

    def members(self) -> list[psutil.Process]:
        """Every living process of its session."""
        return [process for process in psutil.process_iter() if _session(process.pid) == self.pid]

    def cpu_seconds(self) -> float:
        """CPU time its session has used so far: what lives, and the children that what lives has waited for."""
        return sum(sum(process.cpu_times()[:4]) for process in self.members() if process.is_running())

    async def finished(self) -> None:
        """Wait for a good end. Raises `ProgramError` on a bad one."""
        if await self._process.wait() != 0:
            raise self.death()

    def check(self) -> None:
        """Raises `ProgramError` when it has ended."""
        if self._process.returncode is not None:
            raise self.death()

    def death(self) -> ProgramError:
        """What to say of its end, with the last lines it printed."""
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        text = "\n    ".join(lines)
        return ProgramError(f"{self.name} ended with {self._process.returncode}; its last lines were\n    {text}")

    async def stop(self, grace: float) -> None:
        """Ask it to end; after `grace` seconds, kill its whole session."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace)
        members = self.members()
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self._process.wait()
        await asyncio.to_thread(psutil.wait_procs, members, KILL_TIMEOUT)


async def stop_all(programs: Iterable[Program], grace: float) -> None:
    """Stop them side by side."""
    await asyncio.gather(*(program.stop(grace) for program in programs))


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
