"""Workers and triggerers with different versions of this package, where the versions cannot read each other."""

from __future__ import annotations

import pytest

from kpo_async.demo.airflow import DagRun, TaskInstance
from kpo_async.pod_task import VERSION
from tests.deployments.airflow import Deployment, WholeAirflow
from tests.deployments.test_reconciler import deferred, no_triggerer

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_a_row_of_an_incompatible_version_fails_its_task_and_no_other(
    two_triggerers: WholeAirflow[Deployment],
) -> None:
    whole, airflow = two_triggerers, two_triggerers.airflow
    run, (task, other) = deferred(whole, pods=2)
    with no_triggerer(whole):
        airflow.rewrite_trigger(run, task, f'"version": {VERSION}', f'"version": {VERSION + 1}')
    whole.until("the task to fail", lambda: state(whole, run, task) == "failed")
    said = "\n".join(whole.log(run, task))
    assert f"PodTask version {VERSION + 1} cannot be read here (this host speaks version {VERSION})" in said
    assert "install the same kpo-async on workers and triggerers" in said
    whole.until("its pod to go", lambda: len(whole.pods()) == 1)
    assert state(whole, run, other) == "deferred"
    whole.wait(airflow.set_run_state(run, "failed"))
    whole.until("the other pod to go", lambda: not whole.pods())


def state(whole: WholeAirflow[Deployment], run: DagRun, task: TaskInstance) -> str | None:
    return next(found.state for found in whole.airflow.task_instances(run) if str(found) == str(task))
