"""What the API server asks of a node: the border between `server` and `kubelet`.

The two meet in the store (pods, their status, events) and in this protocol (logs and exec, which are not objects).

Pods' lives, who does what:

- The scheduler sets `spec.nodeName` and the condition PodScheduled. The kubelet takes pods whose `nodeName` is its own,
  and writes `status` with `store.update("pods", {**current, "status": ...})` after a fresh `store.get`.
- DELETE sets `metadata.deletionTimestamp` and `deletionGracePeriodSeconds`. The kubelet stops the containers within
  that grace, writes their last status and calls `deletion.finish`. A pod without a node, one that has ended, and one
  deleted with grace 0 are removed by the server itself: the kubelet sees DELETED and kills what still runs.
- A second DELETE may shorten the grace: `deletionGracePeriodSeconds` changes in a MODIFIED.
- Events are objects too: `store.create("events", {...})`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from kpo_async.localcluster.store.store import Object

NODE_NAME = "local-1"
"""The only node."""


class BadRequest(Exception):
    """The kubelet cannot answer; the text goes to the client with status 400."""


class BadLogRequest(BadRequest):
    """For example `container "base" in pod "x" is waiting to start: ContainerCreating`."""


class BadExecRequest(BadRequest):
    """For example `container not found ("base")`; the server answers 500, as a real one does."""


class ExecNotStarted(BadExecRequest):
    """The command cannot be started, for example because it does not exist; told on the status channel."""


@dataclass(frozen=True)
class LogOptions:
    """PodLogOptions (core/v1). `container` is never empty: the server has chosen the default one."""

    container: str
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_time: int | None = None
    """Nanoseconds since the epoch; lines at or after it."""
    since_seconds: int | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None


class ExecSession(Protocol):
    """One command that runs in a container."""

    async def write(self, data: bytes) -> None:
        """Hand bytes to the command's stdin. Ignored when it has none or has ended."""

    async def close_stdin(self) -> None:
        """End of the command's input."""

    def stdout(self) -> AsyncIterator[bytes]:
        """What the command writes, in chunks, until it closes its output."""

    def stderr(self) -> AsyncIterator[bytes]:
        """Likewise; nothing with a tty."""

    def resize(self, columns: int, rows: int) -> None:
        """The size of the client's terminal. Ignored without a tty."""

    async def wait(self) -> int:
        """The exit code."""

    async def kill(self) -> None:
        """End the command, because its client has gone. No error when it has ended by itself."""


class Kubelet(Protocol):
    """Runs the pods of one node."""

    started: asyncio.Event
    """Set by `run` once pods can be started."""

    async def run(self) -> None:
        """Work until cancelled; then kill every process that was started, and return after the last is gone."""

    def log(self, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
        """A container's log as pieces of any size, according to `options`.

        The first step of the iterator raises BadLogRequest where a kubelet would refuse.
        """

    async def exec(self, pod: Object, container: str, command: list[str], *, stdin: bool, tty: bool) -> ExecSession:
        """Start a command in a running container. Raises BadExecRequest."""
