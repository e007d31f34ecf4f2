"""Exec: another process in a running container, with its streams."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator

from kpo_async.localcluster.kubelet.containers import ContainerWorker
from kpo_async.localcluster.node import BadExecRequest, ExecNotStarted
from kpo_async.localcluster.runtime.runtime import ContainerProcess, ProcessSpec, Runtime, StartError

_BLOCK = 32 * 1024
_NOT_STARTED = (
    "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: "
    "unable to start container process: "
)


class _Output:
    """The reading end of a process's output."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the output until the process closes it."""
        loop = asyncio.get_running_loop()
        while self._descriptor >= 0:
            readable = loop.create_future()
            loop.add_reader(self._descriptor, _resolve, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._descriptor)
            try:
                data = os.read(self._descriptor, _BLOCK)
            except OSError:  # A terminal raises it once its last process has closed it.
                data = b""
            if not data:
                return
            yield data

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class LocalExecSession:
    """A command in a container (`node.ExecSession`)."""

    def __init__(self, process: ContainerProcess, stdin: int, stdout: int, stderr: int, *, tty: bool) -> None:
        """Owns the descriptors; -1 stands for a missing stream. With a tty, stdin is a copy of stdout."""
        self._process = process
        self._stdin = stdin
        self._output = _Output(stdout)
        self._errors = _Output(stderr) if stderr >= 0 else None
        self._terminal = stdout if tty else -1
        if stdin >= 0:
            os.set_blocking(stdin, False)

    async def write(self, data: bytes) -> None:
        """Write to the command's stdin."""
        loop = asyncio.get_running_loop()
        while data and self._stdin >= 0:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                writable = loop.create_future()
                loop.add_writer(self._stdin, _resolve, writable)
                try:
                    await writable
                finally:
                    if self._stdin >= 0:
                        loop.remove_writer(self._stdin)
            except OSError:  # The command has closed its stdin.
                await self.close_stdin()

    async def close_stdin(self) -> None:
        """Close the command's stdin."""
        if self._stdin >= 0:
            asyncio.get_running_loop().remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = -1

    def stdout(self) -> AsyncIterator[bytes]:
        """Yield the command's output."""
        return self._output.chunks()

    async def stderr(self) -> AsyncIterator[bytes]:
        """Yield the command's errors; nothing with a tty."""
        if self._errors is not None:
            async for data in self._errors.chunks():
                yield data

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the client's terminal."""
        if self._terminal >= 0 and not self._process.exited.done():
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def wait(self) -> int:
        """Wait for the command's end and return its exit code."""
        return await asyncio.shield(self._process.exited)

    async def kill(self) -> None:
        """Kill the command and close its streams."""
        self._process.signal(signal.SIGKILL)
        await self.wait()
        await self.close_stdin()
        self._terminal = -1
        self._output.close()
        if self._errors is not None:
            self._errors.close()


async def start_exec(
    runtime: Runtime, container: ContainerWorker, command: list[str], *, stdin: bool, tty: bool
) -> LocalExecSession:
    """Start a command in a running container. Raises BadExecRequest."""
    run = container.current
    if run is None or run.process is None:
        raise BadExecRequest(f'container not found ("{container.record.name}")')
    spec = ProcessSpec(command, run.spec.env, run.spec.cwd, mounts=run.spec.mounts)
    kept, passed = _terminal() if tty else _pipes(stdin=stdin)
    try:
        process = await runtime.exec(run.process, spec, passed, tty=tty)
    except StartError as error:
        for descriptor in kept:
            if descriptor >= 0:
                os.close(descriptor)
        raise ExecNotStarted(f"{_NOT_STARTED}{error}: unknown") from error
    return LocalExecSession(process, *kept, tty=tty)


def _terminal() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the session's and the command's ends of stdin, stdout and stderr: a terminal."""
    master, slave = os.openpty()
    return (os.dup(master), master, -1), (slave, os.dup(slave), os.dup(slave))


def _pipes(*, stdin: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the session's and the command's ends of stdin, stdout and stderr: pipes."""
    read_stdin, write_stdin = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
    read_stdout, write_stdout = os.pipe()
    read_stderr, write_stderr = os.pipe()
    return (write_stdin, read_stdout, read_stderr), (read_stdin, write_stdout, write_stderr)
