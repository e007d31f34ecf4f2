"""Where the demo's pods run: the embedded cluster as a process of its own, or the cluster that a kubeconfig names.

Either way the pods live in a new namespace, which the demo deletes when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from kpo_async.compat import timeout
from kpo_async.demo.processes import Program
from kpo_async.exceptions import ApiError
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client

START_TIMEOUT = 30.0
STOP_GRACE = 10.0
"""Seconds the embedded cluster has to end its pods."""
METRICS_TIMEOUT = 2.0
FAULT_PREFIX = "fault: "
"""Begins each line in which `chaos` announces a fault."""

_SERIES = re.compile(r'^(apiserver_request_total|apiserver_longrunning_requests)\{(.*resource="pods".*)\} (\S+)$', re.M)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Traffic:
    """The requests about pods that an API server has received, by verb, and the watches that are open now."""

    requests: Counter[str] = field(default_factory=Counter)
    watches: int = 0


@dataclass(frozen=True)
class Cluster:
    """A cluster with a namespace for the demo."""

    kubeconfig: Path
    namespace: str
    client: Client
    log: Path | None
    """What the embedded cluster prints, the injected faults among it; None for a real cluster."""

    @property
    def embedded(self) -> bool:
        """Whether the demo started this cluster."""
        return self.log is not None

    def faults(self) -> list[str]:
        """Return the faults injected so far, the oldest first."""
        lines = self.log.read_text().splitlines() if self.log else []
        return [line.removeprefix(FAULT_PREFIX) for line in lines if line.startswith(FAULT_PREFIX)]

    @property
    def connection(self) -> str:
        """Airflow's connection to it, for AIRFLOW_CONN_KUBERNETES_DEFAULT."""
        extra = {"kube_config_path": str(self.kubeconfig), "namespace": self.namespace}
        return json.dumps({"conn_type": "kubernetes", "extra": extra})

    async def traffic(self) -> Traffic | None:
        """Return the requests of all clients so far; None if this identity may not read the metrics."""
        try:
            async with timeout(METRICS_TIMEOUT):
                return parse_metrics((await self.client.read_path("/metrics")).decode())
        except (ApiError, asyncio.TimeoutError):
            return None


@contextlib.asynccontextmanager
async def open_cluster(kubeconfig: Path | None, folder: Path, *, faults: bool = False) -> AsyncIterator[Cluster]:
    """Open the cluster of `kubeconfig`; without one, start an embedded cluster that keeps its files in `folder`.

    `faults`: run `chaos`, so that the embedded API server misbehaves all the time.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = None if kubeconfig else folder / "cluster.log"
        path = kubeconfig if kubeconfig else await stack.enter_async_context(_embedded(folder, faults))
        client = await stack.enter_async_context(Client(await load(ClusterSource(config_file=str(path)))))
        namespace = await stack.enter_async_context(_namespace(client))
        yield Cluster(path.resolve(), namespace, client, log)


@contextlib.asynccontextmanager
async def _embedded(folder: Path, faults: bool) -> AsyncIterator[Path]:
    """Run an embedded cluster in a process of its own; yield its kubeconfig."""
    kubeconfig = folder / "kubeconfig"
    module = ["kpo_async.demo.chaos"] if faults else ["kpo_async.localcluster", "--kubeconfig"]
    command = [sys.executable, "-m", *module, str(kubeconfig)]
    program = await Program.start("embedded cluster", command, os.environ, folder / "cluster.log")
    try:
        async with timeout(START_TIMEOUT):
            while not kubeconfig.exists():
                program.check()
                await asyncio.sleep(0.05)
        yield kubeconfig
    finally:
        await asyncio.shield(program.stop(STOP_GRACE))


@contextlib.asynccontextmanager
async def _namespace(client: Client) -> AsyncIterator[str]:
    name = f"kpo-async-demo-{secrets.token_hex(4)}"
    await client.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        with contextlib.suppress(ApiError):
            await asyncio.shield(client.delete("namespaces", name))


def parse_metrics(text: str) -> Traffic:
    """Parse Prometheus text. Count only requests about one namespace: controllers watch all namespaces at once."""
    requests: Counter[str] = Counter()
    watches = 0
    for metric, rest, value in _SERIES.findall(text):
        labels = dict(_LABEL.findall(rest))
        if labels.get("scope") == "cluster" or labels.get("subresource") not in ("", "log"):
            continue
        if metric == "apiserver_longrunning_requests":
            watches += int(float(value)) if labels["verb"] == "WATCH" else 0
        else:
            requests["LOG" if labels["subresource"] else labels["verb"]] += int(float(value))
    return Traffic(requests, watches)
