"""What the user of a request may see, by the rules of Airflow's own endpoints.

A pod is visible to those who may read the task instances of its DAG, a log to those who may read that DAG's task logs,
and what is wrong with a connection to those who may read the connection. A pod without a readable task is visible to
nobody. Airflow's auth manager answers; it may ask a database or another server, so it is asked in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models import Connection
from fastapi import HTTPException, Request

from kpo_async.pod_task import ClusterRef


class Reader:
    """The user of one request. What it may see is asked once: streams are short."""

    def __init__(self, request: Request, user: GetUserDep) -> None:
        self._request = request
        self._user = user
        self._dags: dict[str, bool] = {}
        self._connections: dict[str | None, bool] = {}

    async def learn(self, dag_ids: Iterable[str], clusters: Iterable[ClusterRef] = ()) -> None:
        """Ask for what is not known yet about these DAGs and connections."""
        dags = set(dag_ids) - self._dags.keys()
        connections = {cluster.conn_id for cluster in clusters} - self._connections.keys()
        if dags or connections:
            await asyncio.to_thread(self._ask, dags, connections)

    def sees_dag(self, dag_id: str) -> bool:
        """Whether the user may see the DAG's pods. `learn` it before."""
        return self._dags[dag_id]

    def sees_connection(self, cluster: ClusterRef) -> bool:
        """Whether the user may see where the cluster is and what is wrong with it. `learn` it before."""
        return self._connections[cluster.conn_id]

    async def require_log(self, dag_id: str) -> None:
        """Raise `HTTPException` 403 unless the user may read the logs of the DAG's tasks."""
        await asyncio.to_thread(
            requires_access_dag("GET", DagAccessEntity.TASK_LOGS, dag_id), self._request, self._user
        )

    def _ask(self, dag_ids: set[str], connections: set[str | None]) -> None:
        for dag_id in dag_ids:
            self._dags[dag_id] = self._may_read(dag_id)
        for conn_id in connections:
            team = Connection.get_team_name(conn_id) if conn_id else None
            details = ConnectionDetails(conn_id=conn_id, team_name=team)
            self._connections[conn_id] = get_auth_manager().is_authorized_connection(
                method="GET", details=details, user=self._user
            )

    def _may_read(self, dag_id: str) -> bool:
        try:
            requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE, dag_id)(self._request, self._user)
        except HTTPException:
            return False
        return True
