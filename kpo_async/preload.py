"""Import what tasks and triggers need before the processes that run them are forked, so that none has to import it.

When a component of Airflow starts, it asks for this package's metadata (`get_provider_info`), which is all that a
Celery worker loads of a provider before it forks. So the hook is set there. It does nothing in processes whose forks
run neither tasks nor triggers: API servers, DAG processors, schedulers with other executors.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib import import_module

from kpo_async.hooks.triggerer import TRIGGERER_MODULE

log = logging.getLogger(__name__)

FORKERS = (
    "airflow.executors.local_executor",
    "airflow.providers.celery.cli.celery_command",
    TRIGGERER_MODULE,
)
"""One of these modules is loaded in a process whose forks run tasks or triggers, and in no other that forks."""
PRELOADED = (
    "airflow.dag_processing.bundles.local",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.task_runner",
    "airflow.version",
    "jinja2.ext",
    "kpo_async.operators.pod",
    "kpo_async.operators.worker",
    "kpo_async.workerless.trigger",
)


@cache
def before_forks() -> None:
    """Preload before this process forks, should its forks need it and `[kpo_async] preload` be on, as by default."""
    os.register_at_fork(before=_before_fork)


def _before_fork() -> None:
    if any(module in sys.modules for module in FORKERS):
        _preload()


@cache
def _preload() -> None:
    """Import the modules, once. Errors are logged: a task shows its own."""
    try:
        from kpo_async.hooks import shared_validators
        from kpo_async.hooks.garbage import leave_alone
        from kpo_async.hooks.settings import switch

        if switch("preload"):
            for module in PRELOADED:
                import_module(module)
            _fill_caches()
            shared_validators.install()
            leave_alone()
    except Exception as error:  # whatever an import of Airflow's or an option's value raises
        log.warning("Tasks and triggers import what they need by themselves, because preloading failed: %r", error)


def _fill_caches() -> None:
    """Do what takes long the first time in a process, so that each task saves 4 ms of CPU."""
    from kpo_async.api_types import pod_from_dict
    from kpo_async.hooks.airflow import log_path_renderer
    from kpo_async.lifecycle import TaskRecord
    from kpo_async.operators.manifest import values
    from kpo_async.operators.pod import KubernetesPodOperator
    from kpo_async.pod.build import PodParameters, TaskIdentity, build_pod
    from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask
    from kpo_async.triggers.pod import KubernetesPodTrigger

    operator = KubernetesPodOperator(task_id="preload", image="preload", tolerations=[{}])
    task = TaskIdentity(id="preload", dag_id="preload", task_id="preload", run_id="preload", try_number=1)
    pod_from_dict(build_pod(PodParameters.of(values(operator), warn=log.debug), task=task))
    TaskRecord.of_try(task).to_json()
    KubernetesPodTrigger(PodTask("preload", "preload", "preload").to_dict())
    Outcome.from_dict(Outcome(OutcomeStatus.SUCCEEDED).to_dict())
    log_path_renderer()
    "localhost".encode("idna")  # as for a TLS handshake
