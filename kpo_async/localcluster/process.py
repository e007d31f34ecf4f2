"""An embedded cluster in a child process, for callers without an event loop, or whose loop must stay free."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

STOP_SECONDS = 20
"""How long the child may take to end after SIGTERM."""


class LocalClusterProcess:
    """`with LocalClusterProcess() as cluster: ... cluster.kubeconfig ...`."""

    def __init__(self, *options: str) -> None:
        """`options` are those of the command `kpo-async cluster`."""
        self._command = [sys.executable, "-m", "kpo_async.localcluster", *options]
        self._process: subprocess.Popen[str] | None = None
        self.kubeconfig = Path()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> LocalClusterProcess:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._process.stdout.close()
            self._process = None
            raise RuntimeError(f"The embedded cluster ended with exit code {code} before it was ready")
        self.kubeconfig = Path(line.strip())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
