"""Triggerers that cannot read a task's trigger: another version of this package wrote it, or they lack the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpo_async.demo.airflow import DagRun, TaskInstance
from kpo_async.pod_task import VERSION
from tests.deployments.airflow import TRIGGERERS, Deployment, WholeAirflow
from tests.deployments.test_reconciler import deferred, no_triggerer

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]

NEVER_INSTALLED = "raise ModuleNotFoundError(\"No module named 'kpo_async'\", name='kpo_async')\n"


def test_a_row_of_an_incompatible_version_fails_its_task_and_no_other(
    two_triggerers: WholeAirflow[Deployment],
) -> None:
    run, (task, other) = deferred(two_triggerers, pods=2)
    with no_triggerer(two_triggerers):
        two_triggerers.airflow.rewrite_trigger(run, task, f'"version": {VERSION}', f'"version": {VERSION + 1}')
    said = failed(two_triggerers, run, task)
    assert f"PodTask version {VERSION + 1} cannot be read here (this host speaks version {VERSION})" in said
    assert "install the same kpo-async on workers and triggerers" in said
    two_triggerers.until("its pod to go", lambda: len(two_triggerers.pods()) == 1, 30)
    assert state(two_triggerers, run, other) == "deferred"
    ended(two_triggerers, run)


def test_a_triggerer_without_this_package_fails_the_task_and_a_worker_deletes_its_pod(
    two_triggerers: WholeAirflow[Deployment], tmp_path: Path
) -> None:
    run, (task,) = deferred(two_triggerers, pods=1)
    package = tmp_path / "kpo_async" / "__init__.py"
    package.parent.mkdir()
    package.write_text(NEVER_INSTALLED)
    with two_triggerers.airflow.changed(TRIGGERERS, PYTHONPATH=str(tmp_path)):
        with no_triggerer(two_triggerers):
            pass
        assert "A triggerer lacks this package: install kpo-async" in failed(two_triggerers, run, task)
        two_triggerers.until("its pod to go", lambda: not two_triggerers.pods(), 30)
    with no_triggerer(two_triggerers):
        pass
    ended(two_triggerers, run)


def failed(whole: WholeAirflow[Deployment], run: DagRun, task: TaskInstance) -> str:
    """Wait until the task has failed, and return its log."""
    whole.until("the task to fail", lambda: state(whole, run, task) == "failed", 60)
    return "\n".join(whole.log(run, task))


def state(whole: WholeAirflow[Deployment], run: DagRun, task: TaskInstance) -> str | None:
    return next(found.state for found in whole.airflow.task_instances(run) if str(found) == str(task))


def ended(whole: WholeAirflow[Deployment], run: DagRun) -> None:
    whole.wait(whole.airflow.set_run_state(run, "failed"))
    whole.until("all pods to go", lambda: not whole.pods(), 30)
