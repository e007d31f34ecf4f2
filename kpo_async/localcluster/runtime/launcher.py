"""A small fork server: starts container processes, each in its own namespaces where Linux allows it.

It runs in its own, isolated process (`python -I -S`), because forking this small process is cheap and forking the
cluster's is not. Stdlib only.
Requests arrive on a socket: four bytes of length, JSON, and the new process's stdin, stdout and stderr as SCM_RIGHTS.
Replies are lines of JSON on a pipe. When the socket is closed, the launcher ends, with every process it has started.

With namespaces, the launcher is the first process of a PID namespace: the kernel kills every descendant with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
from typing import NoReturn

from kpo_async.localcluster.runtime.sandbox import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    LaunchRequest,
    NamespaceSandbox,
    PlainSandbox,
    Sandbox,
    open_namespaces,
    prctl,
)


class StartFailed(Exception):
    """A process could not be started; the text is runc's."""


def change_directory(path: str) -> None:
    """Enter a working directory, which is created if it does not exist. Raises StartFailed."""
    try:
        os.makedirs(path, exist_ok=True)
        os.chdir(path)
    except OSError as error:
        # runc's text is "mkdir /etc/passwd: not a directory".
        reason = "not a directory" if isinstance(error, FileExistsError) else (error.strerror or "").lower()
        raise StartFailed(f"error during container init: mkdir {path}: {reason}") from error


def execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Replace this process by a program. Raises StartFailed."""
    program = argv[0]
    try:
        if "/" in program:
            os.stat(program)
            os.execve(program, argv, env)
        os.execvpe(program, argv, env)
    except PermissionError as error:
        raise StartFailed(f'exec: "{program}": permission denied') from error
    except (FileNotFoundError, NotADirectoryError) as error:
        if "/" in program:
            raise StartFailed(f'exec: "{program}": stat {program}: no such file or directory') from error
        raise StartFailed(f'exec: "{program}": executable file not found in $PATH') from error
    except OSError as error:
        raise StartFailed(f'exec: "{program}": {(error.strerror or "").lower()}') from error


def become(request: LaunchRequest, descriptors: list[int], sandbox: Sandbox) -> NoReturn:
    """Turn a forked process into the requested one. Raises StartFailed or OSError."""
    os.setsid()
    if request["op"] == "run":
        sandbox.isolate(request)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    if request.get("tty"):
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for name in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGCHLD,
    ):  # Python ignores two of them, the launcher handles the third.
        signal.signal(name, signal.SIG_DFL)
    os.umask(0o022)
    change_directory(request["cwd"])
    execute(request["argv"], request["env"])


class Launcher:
    """Serves requests until the socket is closed, in one thread."""

    def __init__(self, requests: socket.socket, replies: int, sandbox: Sandbox) -> None:
        self.requests = requests
        self.replies = replies
        self.sandbox = sandbox
        self.pids: dict[int, int] = {}
        """Process ids by the key of the request."""
        self.keys: dict[int, int] = {}
        """Keys by process id."""
        self.starting: dict[int, tuple[int, int]] = {}
        """Key and process id by the descriptor on which a failed start is reported."""
        self.poll = select.poll()
        self.wakeup, self.waker = os.pipe()

    def serve(self) -> None:
        """Handle requests and the ends of processes until the socket is closed."""
        for descriptor in (self.wakeup, self.waker):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for descriptor in (self.wakeup, self.requests.fileno()):
            self.poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.requests.fileno():
                    if not self._handle_request():
                        return
                elif descriptor == self.wakeup:
                    os.read(self.wakeup, 4096)
                    self._reap()
                elif descriptor in self.starting:
                    self._started(descriptor)

    def _reply(self, **message: object) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self.replies, data) :]

    def _handle_request(self) -> bool:
        header, descriptors, _, _ = socket.recv_fds(self.requests, 4, 3)
        if not header:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        (length,) = struct.unpack("!I", header)
        body = bytearray()
        while len(body) < length:
            piece = self.requests.recv(length - len(body))
            if not piece:
                return False
            body += piece
        request = json.loads(body)
        if request["op"] == "signal":
            self._signal(request["id"], request["signal"])
        else:
            self._start(request, list(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, request: LaunchRequest, descriptors: list[int]) -> None:
        key = request["id"]
        reading, writing = os.pipe()
        try:
            pid = self.sandbox.fork() if request["op"] == "run" else self.sandbox.fork_into(self.pids[request["in"]])
        except (OSError, KeyError) as error:
            os.close(reading)
            os.close(writing)
            self._reply(id=key, event="failed", message=f"cannot fork: {error}")
            return
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                become(request, descriptors, self.sandbox)
            except BaseException as error:  # In any case, a forked child must not return to the server's loop.
                os.write(writing, str(error).encode()[:4096])
            os._exit(127)
        os.close(writing)
        self.pids[key] = pid
        self.keys[pid] = key
        self.starting[reading] = (key, pid)
        self.poll.register(reading, select.POLLIN)

    def _started(self, descriptor: int) -> None:
        key, pid = self.starting.pop(descriptor)
        self.poll.unregister(descriptor)
        failure = os.read(descriptor, 4096)
        os.close(descriptor)
        if failure:
            del self.keys[pid], self.pids[key]
            self._reply(id=key, event="failed", message=failure.decode(errors="replace"))
        else:
            self._reply(id=key, event="started")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for descriptor, (_, starting) in list(self.starting.items()):
                if starting == pid:
                    self._started(descriptor)
            key = self.keys.pop(pid, None)
            if key is not None:
                del self.pids[key]
                if isinstance(self.sandbox, PlainSandbox):
                    self._signal_group(pid, signal.SIGKILL)
                self._reply(id=key, event="exited", code=os.waitstatus_to_exitcode(status))

    def _signal(self, key: int, number: int) -> None:
        pid = self.pids.get(key)
        if pid is None:
            return
        if number == signal.SIGKILL and isinstance(self.sandbox, PlainSandbox):
            self._signal_group(pid, number)
        elif isinstance(self.sandbox, NamespaceSandbox) or catches(pid, number):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    @staticmethod
    def _signal_group(pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)

    def kill_all(self) -> None:
        """Kill every process. In a PID namespace the kernel does so, too, when the launcher ends."""
        while True:
            for pid in (*self.keys, *orphans()):
                self._signal_group(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                self.keys.pop(os.wait()[0], None)
            except ChildProcessError:
                return


def catches(pid: int, number: int) -> bool:
    """Whether a process handles a signal: the first process of a container ignores signals that it does not handle."""
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = next(line for line in status if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return True
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def orphans() -> list[int]:
    """Return the processes whose parents have ended, so that the launcher has become their parent."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as children:
            return [int(pid) for pid in children.read().split()]
    except OSError:
        return []


def main(requests: str, replies: str, directory: str, python: str, isolation: str) -> None:
    """Run the launcher; the first two arguments are file descriptors."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    channel, answers = socket.socket(fileno=int(requests)), int(replies)
    for descriptor in (channel.fileno(), answers):
        os.set_inheritable(descriptor, False)
    sandbox: Sandbox = PlainSandbox()
    if isolation == NamespaceSandbox.name:
        try:
            sandbox = open_namespaces(directory, python)
        except (OSError, AttributeError, KeyError) as error:  # Not permitted, not Linux, or an unknown machine.
            os.write(answers, json.dumps({"event": "unusable", "message": str(error)}).encode() + b"\n")
            return
    else:
        # The kernel does not kill a plain container's descendants with the launcher: it must survive to do so.
        prctl(PR_SET_PDEATHSIG, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    gc.disable()
    gc.freeze()
    launcher = Launcher(channel, answers, sandbox)
    os.write(answers, json.dumps({"event": "ready"}).encode() + b"\n")
    try:
        with contextlib.suppress(ConnectionError):  # The cluster's process has died.
            launcher.serve()
    finally:
        launcher.kill_all()
