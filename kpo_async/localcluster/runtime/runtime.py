"""The container runtime: starts processes through the launcher and receives their exit codes.

A container is one process with its descendants. It is isolated by namespaces where the system allows that. Elsewhere
(`PLAIN`) paths below mount points are replaced in the command, its arguments and its environment before the start.
There is no thread and no task per process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from kpo_async.localcluster.runtime.launcher import main; main(*sys.argv[2:])"
)
_PACKAGES = str(Path(__file__).resolve().parents[3])
_CLOSE_SECONDS = 10.0
"""How long the launcher may take to end."""
KILLED = 137
"""The exit code after SIGKILL: 128 + 9."""


class Isolation(Enum):
    """How containers are isolated from the host."""

    NAMESPACES = "namespaces"
    """Their own mounts, processes and host name (Linux, as root or with user namespaces)."""
    PLAIN = "plain"
    """None: ordinary processes, whose paths are rewritten."""


class StartError(Exception):
    """A process could not be started; the text is runc's."""


class RuntimeLost(Exception):
    """The launcher has ended unexpectedly, and every container with it."""


@dataclass(frozen=True)
class Mount:
    """A file or directory of the host (`source`) at a path of the container (`target`)."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class ProcessSpec:
    """What to run. `argv` is not empty; `env` holds all variables."""

    argv: Sequence[str]
    env: dict[str, str]
    cwd: str
    hostname: str = "localhost"
    mounts: Sequence[Mount] = ()


class ContainerProcess:
    """A process that the launcher starts. `exited` holds its exit code: 128 + n after signal n."""

    def __init__(self, runtime: Runtime, key: int) -> None:
        loop = asyncio.get_running_loop()
        self.key = key
        self.started: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()
        self._runtime = runtime

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process, as a container runtime does. Ignored when it has ended."""
        if not self.exited.done():
            self._runtime.send({"op": "signal", "id": self.key, "signal": number})

    def fail(self, message: str) -> None:
        """Record that the process could not be started."""
        if not self.started.done():
            self.started.set_exception(StartError(message))
        if not self.exited.done():
            self.exited.set_result(128)

    def end(self, code: int) -> None:
        """Record the exit code; -n stands for signal n."""
        if not self.started.done():
            self.started.set_result(None)
        if not self.exited.done():
            self.exited.set_result(code if code >= 0 else 128 - code)


class Runtime:
    """Runs processes in containers. Create one with `open_runtime`, end it with `close`."""

    def __init__(self, isolation: Isolation, directory: Path) -> None:
        self.isolation = isolation
        self.binaries = directory / "bin"
        """Holds `python` and `python3`; the first directory on the PATH of plain containers."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._processes: dict[int, ContainerProcess] = {}
        self._keys = itertools.count(1)
        self._outgoing: deque[tuple[bytes, Sequence[int]]] = deque()
        self._incoming = b""
        self._ready: asyncio.Future[str] = self._loop.create_future()
        self._socket, self._launcher_socket = socket.socketpair()
        self._socket.setblocking(False)
        self._replies = -1
        self._launcher: asyncio.subprocess.Process | None = None

    async def start(self) -> str:
        """Start the launcher. Return why this isolation does not work on this system, "" if it does."""
        sandbox, python = self._prepare()
        self._replies, writing = os.pipe()
        os.set_blocking(self._replies, False)
        arguments = (str(self._launcher_socket.fileno()), str(writing), str(sandbox), python, self.isolation.value)
        try:
            self._launcher = await asyncio.create_subprocess_exec(
                *(python, "-I", "-S", "-c", _PROGRAM, _PACKAGES, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(self._launcher_socket.fileno(), writing),
                env={"PATH": "/usr/bin:/bin"},
                start_new_session=True,  # Otherwise Ctrl-C ends it before its containers are stopped.
            )
        finally:
            self._launcher_socket.close()
            os.close(writing)
        self._loop.add_reader(self._replies, self._receive)
        return await self._ready

    def _prepare(self) -> tuple[Path, str]:
        sandbox = self._directory / "sandbox"
        for directory in (sandbox, self.binaries):
            directory.mkdir(parents=True, exist_ok=True)
        # Not the virtual environment's Python: containers see the standard library, not the cluster's packages.
        python = os.path.realpath(sys.executable)
        for name in ("python", "python3"):
            with contextlib.suppress(FileExistsError):
                (self.binaries / name).symlink_to(python)
        return sandbox, python

    async def close(self) -> None:
        """Kill all processes and return when they have ended."""
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, descriptors in self._outgoing:
            close_all(descriptors)
        self._outgoing.clear()
        if self._launcher is not None:
            try:
                await asyncio.wait_for(self._launcher.wait(), _CLOSE_SECONDS)
            except asyncio.TimeoutError:
                self._launcher.kill()
                await self._launcher.wait()
        self._disconnect()
        self.lost.cancel()

    def working_directory(self, scratch: Path) -> str:
        """Return the default working directory of a container: without isolation, not one of the host's."""
        return "/" if self.isolation is Isolation.NAMESPACES else str(scratch)

    async def run(self, spec: ProcessSpec, output: int) -> ContainerProcess:
        """Start a container with the descriptor `output` as its output. Closes `output`. Raises StartError."""
        if self.isolation is Isolation.PLAIN:
            spec = rewrite(spec, self.binaries)
        stdin = os.open(os.devnull, os.O_RDONLY)
        request = {
            "op": "run",
            "hostname": spec.hostname,
            "mounts": [(mount.source, mount.target, mount.read_only) for mount in spec.mounts],
        }
        return await self._start(request, spec, (stdin, output, os.dup(output)))

    async def exec(
        self, container: ContainerProcess, spec: ProcessSpec, streams: Sequence[int], *, tty: bool
    ) -> ContainerProcess:
        """Start another process in a running container. Closes the three `streams`. Raises StartError."""
        if self.isolation is Isolation.PLAIN:
            spec = rewrite(spec, self.binaries)
        return await self._start({"op": "exec", "in": container.key, "tty": tty}, spec, streams)

    async def _start(self, request: dict[str, Any], spec: ProcessSpec, streams: Sequence[int]) -> ContainerProcess:
        process = ContainerProcess(self, next(self._keys))
        if self.lost.done():
            close_all(streams)
            raise StartError("the container runtime has ended")
        self._processes[process.key] = process
        command = {"id": process.key, "argv": list(spec.argv), "env": spec.env, "cwd": spec.cwd}
        self.send({**request, **command}, streams)
        try:
            await process.started
        except asyncio.CancelledError:
            process.signal(9)
            raise
        return process

    def send(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Queue a request; its descriptors are closed once they have been sent."""
        if self._socket.fileno() < 0:  # Closed: the launcher has ended or is ending, and its processes with it.
            close_all(descriptors)
            return
        body = json.dumps(request).encode()
        self._outgoing.append((struct.pack("!I", len(body)) + body, descriptors))
        if len(self._outgoing) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            try:
                sent = socket.send_fds(self._socket, [data], list(descriptors))
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                sent = len(data)  # The launcher has ended: `_receive` ends the processes.
            close_all(descriptors)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            data = os.read(self._replies, 65536)
        except BlockingIOError:
            return
        if not data:
            self._disconnect()
            return
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line))

    def _handle(self, reply: dict[str, Any]) -> None:
        event = reply["event"]
        if event in ("ready", "unusable"):
            self._ready.set_result(reply.get("message", ""))
            return
        process = self._processes[reply["id"]]
        if event == "started":
            if not process.started.done():
                process.started.set_result(None)
        elif event == "failed":
            del self._processes[process.key]
            process.fail(reply["message"])
        else:
            del self._processes[process.key]
            process.end(reply["code"])

    def _disconnect(self) -> None:
        if self._replies < 0:
            return
        self._loop.remove_reader(self._replies)
        os.close(self._replies)
        self._replies = -1
        if not self._ready.done():
            self._ready.set_result("the launcher ended immediately")
        if not self.lost.done():
            self.lost.set_result(None)
        for process in self._processes.values():
            process.end(KILLED)
        self._processes.clear()


async def open_runtime(directory: Path, isolation: Isolation | None = None) -> Runtime:
    """Start a runtime with the given isolation, or with the best one that works on this system.

    Raises RuntimeError if none works.
    """
    reason = ""
    for candidate in [isolation] if isolation else list(Isolation):
        runtime = Runtime(candidate, directory)
        reason = "interrupted"
        try:
            reason = await runtime.start()
        finally:
            if reason:
                await runtime.close()
        if not reason:
            return runtime
    raise RuntimeError(f"containers cannot be started on this system: {reason}")


def rewrite(spec: ProcessSpec, binaries: Path) -> ProcessSpec:
    """Return the same command with the host's paths for the container's: `/data/x` becomes `<source of /data>/x`.

    A path is replaced wherever it occurs between characters that cannot belong to a longer path.
    """
    sources = {mount.target.rstrip("/"): mount.source for mount in spec.mounts}
    longest_first = sorted(map(re.escape, sources), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(longest_first) or '(?!)'})(?![\w.-])")

    def replaced(text: str) -> str:
        return pattern.sub(lambda found: sources[found[1]], text)

    env = {name: replaced(value) for name, value in spec.env.items()}
    env["PATH"] = f"{binaries}:{env.get('PATH', os.defpath)}"
    return replace(spec, argv=[replaced(word) for word in spec.argv], env=env, cwd=replaced(spec.cwd))


def close_all(descriptors: Sequence[int]) -> None:
    """Close file descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
