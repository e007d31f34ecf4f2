"""Names of Airflow that tests need and that are elsewhere in Airflow 3.1."""

from __future__ import annotations

try:
    from airflow.executors.workloads.task import TaskInstanceDTO
except ImportError:
    from airflow.executors.workloads import TaskInstance as TaskInstanceDTO

try:
    from airflow.sdk.exceptions import TaskDeferralError
except ImportError:
    from airflow.exceptions import TaskDeferralError

try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:
    from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization

__all__ = ["DagSerialization", "TaskDeferralError", "TaskInstanceDTO"]
