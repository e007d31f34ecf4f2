"""A pod that ends within a second of the deferral does not lose its task to a race in Airflow.

The scheduler notices the end of a deferred task's worker process some seconds late. If the task is queued again before
that, it takes the old process's end for the new one's and fails the task: "executor reported that the task instance ...
finished with state success, but the task instance's state attribute is queued".
"""

from __future__ import annotations

import pytest

from tests.deployments.airflow import Deployment, WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(400)]


def test_a_hundred_pods_that_end_at_once_all_succeed(two_triggerers: WholeAirflow[Deployment]) -> None:
    run = two_triggerers.run("short_pods", {"pods": 100}, timeout=380)
    assert two_triggerers.failures(run) == {}
    tasks = [task for task in two_triggerers.airflow.task_instances(run) if task.task_id == "short"]
    assert len(tasks) == 100
    assert {task.try_number for task in tasks} == {1}
