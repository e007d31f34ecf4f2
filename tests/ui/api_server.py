"""Airflow's API server alone, below a path prefix, with a cluster in which a test creates pods as tasks do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import httpx
from airflow.api_fastapi.auth.tokens import JWTGenerator

from kpo_async.demo.airflow import Airflow
from kpo_async.demo.cluster import Cluster, open_cluster
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.names import TaskIdentity, mark

ROOT = Path(__file__).parents[2]
PREFIX = "/airflow"
INSTALLATION = "ui-tests"
UNREACHABLE = "moved_away"
"""A connection whose cluster does not answer."""


class ApiServer(Airflow):
    """An Airflow without scheduler and triggerer. It has no DAGs: rights are asked by a DAG's id."""

    components: ClassVar[Mapping[str, str]] = {"api-server": "api-server"}

    def __init__(self, folder: Path, environment: Mapping[str, str], *, prefix: str = PREFIX) -> None:
        super().__init__(folder, environment=environment)
        self._prefix = prefix

    @property
    def url(self) -> str:
        return super().url + self._prefix

    def healthy(self) -> bool:
        """Return whether the API server answers."""
        try:
            return str(self.request("/api/v2/monitor/health")["metadatabase"]["status"]) == "healthy"
        except (OSError, ValueError):
            return False

    def environment_of(self, component: str) -> Mapping[str, str]:
        """Return Airflow's environment with a base URL that has a path."""
        return {**super().environment_of(component), "AIRFLOW__API__BASE_URL": f"{self.url}/"}

    def remember(self, cluster: Cluster, *connections: str) -> None:
        """Store the places of tasks on these connections where the reconciler of a triggerer stores them."""
        places = [{"namespace": cluster.namespace, "cluster": {"conn_id": name}} for name in connections]
        value = json.dumps({"database": "", "places": places})
        with self._engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO variable (key, val, is_encrypted) VALUES ('kpo_async_reconciler', ?, 0)", (value,)
            )

    def token(self, user: str, role: str = "viewer") -> str:
        """Return a token of Airflow's for a user."""
        secret = self.environment["AIRFLOW__API_AUTH__JWT_SECRET"]
        generator = JWTGenerator(secret_key=secret, valid_for=3600, audience="apache-airflow", issuer=None)
        return generator.generate({"sub": user, "role": role, "teams": None})

    @contextlib.contextmanager
    def client(self, user: str | None, role: str = "viewer") -> Iterator[httpx.Client]:
        """Yield an HTTP client that is logged in as `user`, or not at all."""
        cookies = {"_token": self.token(user, role)} if user else {}
        with httpx.Client(base_url=f"{self.url}/kpo-async/", cookies=cookies, timeout=30) as client:
            yield client


@contextlib.asynccontextmanager
async def api_server(folder: Path, **environment: str) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    """Start an API server with `LimitedAuthManager`, and an embedded cluster."""
    async with open_cluster(None, folder) as cluster:
        gone = {"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}]}
        gone |= {"contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"}
        settings = {
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
            f"AIRFLOW_CONN_{UNREACHABLE.upper()}": json.dumps(
                {"conn_type": "kubernetes", "password": "s3cr3t-of-connection", "extra": {"kube_config": gone}}
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
            "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.auth_manager.LimitedAuthManager",
            "AIRFLOW__KPO_ASYNC__INSTALLATION": INSTALLATION,
            **environment,
        }
        async with ApiServer(folder, settings) as server:
            yield server, cluster


def pod_of(
    dag_id: str,
    task_id: str,
    *,
    sim: Mapping[str, str] | None = None,
    installation: str = INSTALLATION,
    logs: LogPlan | None = LogPlan(),  # noqa: B008 - frozen
    **spec: Any,
) -> dict[str, Any]:
    """Return the manifest of a pod as a task of this DAG creates it.

    `sim`: annotations of a simulated pod; None for one that runs. `logs`: which the task shows as they are. `spec`:
    fields of its container.
    """
    task = TaskIdentity(f"{dag_id}/{task_id}", dag_id, task_id, "manual__1", 1)
    record = TaskRecord.of_try(task, logs=logs, masked_connections=[UNREACHABLE])
    annotations = {} if sim is None else {f"sim/{key}": value for key, value in {"log-lines": "3", **sim}.items()}
    metadata: dict[str, Any] = {"name": f"{dag_id}-{task_id}".replace("_", "-"), "annotations": annotations}
    mark(metadata, task.owner, installation=installation, record=record.to_json())
    container = {"name": "base", "image": "busybox:1.36", **spec}
    return {"metadata": metadata, "spec": {"restartPolicy": "Never", "containers": [container]}}
