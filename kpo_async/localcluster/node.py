"""What the API server asks of a node: the border between `api` and `kubelet`.

Both sides share objects through the API (pods, their status, events) and meet in this protocol for logs and exec,
which are not objects. Who does what in a pod's life:

- The scheduler binds the pod: `spec.nodeName` and the condition PodScheduled. The kubelet of that node runs it, and
  writes its status.
- DELETE sets `metadata.deletionTimestamp` and `deletionGracePeriodSeconds`. The kubelet stops the containers within
  that grace, writes their last status and deletes the pod again with no grace left, which removes it. The server itself
  removes a pod that has no node, that has ended, or that is deleted with grace 0: the kubelet sees DELETED, and kills
  what still runs.
- A second DELETE may shorten the grace: `deletionGracePeriodSeconds` changes in a MODIFIED.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from kpo_async.localcluster.store.objects import Object

NODE_NAME = "local-1"
"""The only node."""
KUBERNETES_VERSION = "v1.34.4"
"""The version that API server and kubelet emulate."""


class BadLogRequest(Exception):
    """The kubelet refuses a log: `container "base" in pod "x" is waiting to start: ContainerCreating`. Status 400."""


class BadExecRequest(Exception):
    """The kubelet refuses an exec: `container not found ("base")`. Status 500, as on a real server."""


class ExecNotStarted(BadExecRequest):
    """The command cannot be started, for example because it does not exist; reported on the status channel."""


@dataclass(frozen=True)
class LogOptions:
    """PodLogOptions (core/v1). `container` is never empty: the server has applied the default."""

    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_time: int | None = None
    """Nanoseconds since the epoch; selects lines at or after it."""
    since_seconds: int | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None


class ExecSession(Protocol):
    """One command that runs in a container."""

    async def write(self, data: bytes) -> None:
        """Write to the command's stdin. Ignored when it has none or has ended."""

    async def close_stdin(self) -> None:
        """Close the command's stdin."""

    def stdout(self) -> AsyncIterator[bytes]:
        """Yield the command's output in chunks, until it closes its stdout."""

    def stderr(self) -> AsyncIterator[bytes]:
        """Yield the command's errors in chunks; nothing with a tty."""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the client's terminal. Ignored without a tty."""

    async def wait(self) -> int:
        """Wait for the command's end and return its exit code."""

    async def kill(self) -> None:
        """Kill the command, because its client has disconnected. Not an error when it has ended."""


class Kubelet(Protocol):
    """Runs the pods of one node."""

    started: asyncio.Event
    """Set by `run` once pods can be started."""

    async def run(self) -> None:
        """Work until cancelled; then kill every process that was started, and return when the last one has ended."""

    def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield a container's log in pieces of any size.

        The iterator's first step raises BadLogRequest where a kubelet would refuse.
        """

    async def exec(self, pod: Object, container: str, command: list[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Start a command in a running container. Raises BadExecRequest."""
