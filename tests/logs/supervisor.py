"""The far end of the socket that a triggerer logs to."""

from __future__ import annotations

import codecs
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Supervisor:
    """Reads the records of this process, when a test says so."""

    def __init__(self, socket: socket.socket) -> None:
        self._socket = socket

    def read(self) -> int:
        """Read all there is. Return how much that was."""
        size = 0
        while read := self.read_some():
            size += read
        return size

    def read_some(self) -> int:
        """Read 4 KiB at most. Return how much that was."""
        try:
            return len(self._socket.recv(4096))
        except BlockingIOError:
            return 0


@contextmanager
def supervised(log: logging.Logger) -> Iterator[Supervisor]:
    """Send the log records of this process into a socket, as Airflow's supervisor makes its triggerer do."""
    near, far = socket.socketpair()
    # A write that would block is an error instead.
    near.setblocking(False)
    far.setblocking(False)
    stream = codecs.getwriter("utf-8")(os.fdopen(os.dup(near.fileno()), "wb", buffering=0))
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.handlers.insert(0, handler)
    log.setLevel(logging.INFO)
    try:
        with near, far, stream:
            yield Supervisor(far)
    finally:
        root.removeHandler(handler)
