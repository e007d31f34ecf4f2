"""One API server and cluster for the tests of the page, and a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kpo_async.demo.cluster import Cluster
from tests.deployments.airflow import in_a_thread
from tests.ui.api_server import UNREACHABLE, ApiServer, api_server, pod_of

DASHBOARD = "https://dashboard.example.com/{namespace}/{name}"
HTML = "<img src=x onerror=alert(1)><b>bold</b>"


class Site:
    """A running API server whose cluster has some pods."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self.server: ApiServer = whole.airflow
        self.cluster: Cluster = whole._cluster
        self.until = whole.until

    def create(self, *pods: dict[str, Any]) -> None:
        for pod in pods:
            self._whole.wait(self.cluster.client.create("pods", pod, self.cluster.namespace))

    def delete(self, name: str) -> None:
        self._whole.delete_pod(name)

    def pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._whole.wait(self.cluster.client.get("pods", name, self.cluster.namespace))
        return found

    def restart(self) -> float:
        """Stop the API server, start it again, and return the seconds that the stop took."""
        begun = time.monotonic()
        self._whole.wait(self.server.stop("api-server", grace=60))
        took = time.monotonic() - begun
        self._whole.wait(self.server.start("api-server"))
        self.until("the API server to answer", self.server.healthy)
        return took

    def watches(self) -> int:
        """How many watches of pods the cluster's API server has open."""
        traffic = self._whole.wait(self.cluster.traffic())
        assert traffic is not None
        return int(traffic.watches)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = {"AIRFLOW__KPO_ASYNC__POD_LINK": DASHBOARD}
    with in_a_thread(api_server(tmp_path_factory.mktemp("site"), **settings)) as whole:
        found = Site(whole)
        found.server.remember(found.cluster, "kubernetes_default", UNREACHABLE)
        found.create(
            pod_of(
                "billing", "invoices", command=["sh", "-c", _printing()], env=[{"name": "KEY", "value": "s3cr3t-env"}]
            ),
            pod_of("billing", "waits", sim={"start-after": "1h"}),
            pod_of("reports", "monthly", command=["sh", "-c", "echo of reports; sleep 600"]),
            pod_of("reports", "foreign", installation="another", sim={}),
        )
        yield found


def _printing() -> str:
    lines = [HTML, "password s3cr3t-of-connection", "caf\u00e9"]
    shown = "; ".join(f"echo '{line}'" for line in lines)
    return f"{shown}; while true; do echo tick; sleep 1; done"


def events(response: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the server-sent events of a streamed response."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
