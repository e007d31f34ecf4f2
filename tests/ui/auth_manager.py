"""Airflow's simple auth manager, with users who may read some DAGs only. The API server of these tests uses it."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

READABLE = {"ann": {"billing"}, "lena": {"billing", "reports"}, "nobody": set[str]()}
"""The DAGs of each user with limits."""
WITHOUT_LOGS = {"lena"}
"""Users who may not read task logs."""


class LimitedAuthManager(SimpleAuthManager):
    """Limits the users of `READABLE`; all others have the rights of their role."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: DagAccessEntity | None = None, details: Any = None
    ) -> bool:
        if access_entity is DagAccessEntity.TASK_LOGS and user.username in WITHOUT_LOGS:
            return False
        readable = READABLE.get(user.username)
        if readable is not None and (details is None or details.id not in readable):
            return False
        allowed: bool = super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
        return allowed
