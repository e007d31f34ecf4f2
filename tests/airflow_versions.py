"""What of Airflow differs between its versions for tests: names that moved, and what older ones cannot do."""

from __future__ import annotations

import pytest

from kpo_async.hooks.airflow import FAILING_IN_TRIGGERER_RETRIES

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

__all__ = ["DagSerialization", "TaskDeferralError", "TaskInstanceDTO", "starts_in_triggerer"]

starts_in_triggerer = pytest.mark.skipif(
    not FAILING_IN_TRIGGERER_RETRIES, reason="before Airflow 3.3.1 a worker starts every task"
)
