"""`KubernetesPodOperator`: run one pod to completion, without a worker slot while it runs.

Its parameters and their templates are in `operators.base`, what its subclasses may read of it in `operators.on_demand`.
Airflow calls `execute`, `trigger_reentry` and `on_kill`, which hand over to `operators.worker`. That module is imported
when a task runs, so that a DAG file, which is parsed all day, loads no Kubernetes client.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kpo_async import models
from kpo_async._version import __version__
from kpo_async.json_types import Json
from kpo_async.operators.deprecated import warn_of_overrides
from kpo_async.operators.on_demand import OnDemandAttributes
from kpo_async.operators.start_from_trigger import UNSTARTED, is_wanted, reason_for_worker

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class KubernetesPodOperator(OnDemandAttributes):
    """Run a task as a pod.

    A drop-in for the operator of apache-airflow-providers-cncf-kubernetes: same parameters, labels, XCom path and
    connection. `docs/reference/parameters.md` lists every parameter with type, default, meaning and differences.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        warn_of_overrides(cls)

    def execute(self, context: Context) -> Any:
        """Create the pod (or find it) and defer. If not deferrable, wait for the pod and return the task's result."""
        if is_wanted(vars(self)) and (reason := reason_for_worker(self)):
            self.log.info("A worker starts this task in spite of start_from_trigger: %s", reason)
        return self.execute_async(context) if self.deferrable else self.execute_sync(context)

    def execute_sync(self, context: Context) -> Any:
        """Do what `execute` does if the operator is not deferrable."""
        from kpo_async.operators.worker import TaskRun

        return TaskRun(self, context).run_to_completion()

    def execute_async(self, context: Context) -> None:
        """Do what `execute` does if the operator is deferrable."""
        from kpo_async.operators.worker import TaskRun

        TaskRun(self, context).start()

    def resume_execution(self, next_method: str, next_kwargs: Json | None, context: Context) -> Any:
        """Resume after a deferral. Nothing else would delete the pod of a trigger that broke or timed out."""
        from kpo_async.operators.worker import TaskRun

        if next_method != "trigger_reentry":
            if any("No module named 'kpo_async" in line for line in (next_kwargs or {}).get("traceback") or ()):
                log.error("A triggerer lacks this package: install kpo-async %s there, as on the worker", __version__)
            TaskRun(self, context).abandon()
        elif next_kwargs:
            self.resumed_by = next_kwargs.get("event")
        return super().resume_execution(next_method, next_kwargs, context)

    def trigger_reentry(self, context: Context, event: Json) -> Any:
        """Finish a task whose pod has ended: remaining logs, XCom, callbacks, and what becomes of the pod.

        With the event of an earlier try, which Airflow gives to a task that is cleared while it resumes, start anew.
        """
        from kpo_async.operators.worker import TaskRun

        if event.get("status") == UNSTARTED:
            if reason := event.get("message"):  # older triggers do not say
                self.log.warning("%s", reason)
            return self.execute(context)
        run = TaskRun(self, context)
        if run.owns(event):
            return run.resume(event)
        self.log.info("The trigger fired for an earlier try, and this one starts anew: the task was cleared meanwhile")
        return self.execute(context)

    def on_kill(self) -> None:
        """Stop the pod of the current run. A signal handler calls this, so it only cancels the run, which does it."""
        if self.current_run is not None:
            self.current_run.kill()

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> Json:
        """Return the pod's manifest as a plain dict, complete as it would be created. Asks no cluster.

        Without a context or in a `dry_run`, the connection is not read either. A subclass may override this and return
        another dict, or a model. Raises `ManifestError` when the parameters contradict each other or Kubernetes.
        """
        from kpo_async.operators import manifest

        return manifest.build(self, context, dry_run=dry_run)

    def dry_run(self) -> None:
        """Print the manifest as YAML. Asks no cluster."""
        import yaml

        print(yaml.safe_dump(models.to_dict(self.build_pod_request_obj()), sort_keys=False))
