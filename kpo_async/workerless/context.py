"""The context in which a triggerer renders templates.

A triggerer's supervisor answers few of the requests that a worker's does. It ignores the others, and their callers wait
for ever. In this context they raise `NeedsWorkerError` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from airflow.sdk.api.datamodels._generated import DagRun
from airflow.sdk.definitions.param import Param, ParamsDict, process_params
from airflow.sdk.execution_time.xcom import XCom

from kpo_async.exceptions import KpoError, ManifestError
from kpo_async.hooks.airflow import ParamValidationError

T = TypeVar("T")
UNSET: Any = object()
NOT_ANSWERED = (
    *("prev_data_interval_start_success", "prev_data_interval_end_success", "prev_start_date_success"),
    *("prev_end_date_success", "inlet_events", "outlet_events", "task_state_store", "asset_state_store"),
)
"""Variables of the context whose values a triggerer's supervisor does not send."""


class NeedsWorkerError(Exception):
    """Only a worker can start this task. The message says why."""


class NotAnswered:
    """A variable of the context that a triggerer does not have: any use of it raises `NeedsWorkerError`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise NeedsWorkerError(f"a template uses {self._name}, which a triggerer does not have")

    def __str__(self) -> str:
        raise NeedsWorkerError(f"a template uses {self._name}, which a triggerer does not have")

    __getitem__ = __getattr__
    __iter__ = __bool__ = __len__ = __call__ = __str__


class TaskInstanceInTriggerer:
    """The `ti` of templates: what identifies a task instance, and `xcom_pull` by the requests that are answered."""

    KNOWN = frozenset({"id", "dag_id", "task_id", "run_id", "map_index", "try_number", "task", "dag_version_id"})

    def __init__(self, task_instance: Any) -> None:
        self._task_instance = task_instance

    def __getattr__(self, name: str) -> Any:
        if name in self.KNOWN:
            return getattr(self._task_instance, name)
        raise NeedsWorkerError(f"a template uses ti.{name}, which a triggerer does not have")

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = "return_value",
        include_prior_dates: bool = False,
        *,
        map_indexes: int | Iterable[int] | None = UNSET,
        default: Any = None,
        run_id: str | None = None,
    ) -> Any:
        """Return XComs as Airflow's `xcom_pull` does. Raises `NeedsWorkerError` for all XComs of a mapped task."""
        names = [self.task_id] if task_ids is None else [task_ids] if isinstance(task_ids, str) else list(task_ids)
        single = task_ids is None or isinstance(task_ids, str)
        if map_indexes is UNSET:
            for name in names:
                self._refuse_mapped(name, dag_id)
            indexes = [-1]
        elif map_indexes is None or isinstance(map_indexes, int):
            indexes = [-1 if map_indexes is None else map_indexes]
        else:
            single, indexes = False, list(map_indexes)
        found = []
        for name in names:
            for index in indexes:
                value = XCom.get_one(
                    key=key,
                    dag_id=dag_id or self.dag_id,
                    task_id=name,
                    run_id=run_id or self.run_id,
                    map_index=index,
                    include_prior_dates=include_prior_dates,
                )
                found.append(default if value is None else value)
        return found[0] if single else found

    def _refuse_mapped(self, task_id: str, dag_id: str | None) -> None:
        dag = self.task.dag
        if dag_id not in (None, self.dag_id) or not dag.has_task(task_id):
            raise NeedsWorkerError(f"xcom_pull from {dag_id}.{task_id}, which may be mapped, needs map_indexes=-1 here")
        task = dag.get_task(task_id)
        if task.is_mapped or task.get_closest_mapped_task_group() is not None:
            raise NeedsWorkerError(f"xcom_pull asks for all XComs of {task_id}, which is mapped")


def template_context(task_instance: Any) -> dict[str, Any]:
    """Return the context for a trigger's task instance as Airflow's runner made it.

    Raises `ManifestError` for a value of the run that a param does not allow, as a worker does.
    """
    context: dict[str, Any] = dict(task_instance.get_template_context())
    context["params"] = _validated_params(task_instance.task, context["dag_run"].conf)
    context.update({name: NotAnswered(name) for name in NOT_ANSWERED if name in context})
    ti = TaskInstanceInTriggerer(task_instance)
    return {**context, "dag_run": _as_on_worker(context["dag_run"]), "ti": ti, "task_instance": ti}


def _validated_params(task: Any, conf: Any) -> dict[str, Any]:
    """Return the params as a worker does: in a deserialized DAG, Airflow checks them without their schemas."""
    dag, own = (SimpleNamespace(params=_with_schemas(source.params)) for source in (task.dag, task))
    try:
        return process_params(cast("Any", dag), cast("Any", own), conf, suppress_exception=False)
    except ParamValidationError as error:
        raise ManifestError(str(error)) from error


def _with_schemas(params: Any) -> ParamsDict:
    found = {name: params.get_param(name) for name in params or ()}
    return ParamsDict({name: Param(param.value, **param.schema) for name, param in found.items()})


def _as_on_worker(dag_run: Any) -> Any:
    """Return the run with the enums that a worker has, which show as "DagRunType.MANUAL" where others are "manual"."""
    fields = DagRun.model_fields
    enums = {name: fields[name].annotation(getattr(dag_run, name)) for name in ("run_type", "state")}  # type: ignore[misc]
    return dag_run.model_copy(update=enums)


def guarded(step: Callable[[], T], problem: str) -> T:
    """Return `step()`. Raises `NeedsWorkerError`, which names the `problem`, for all but this library's own errors.

    A worker may know more, as files of the DAG, or fails as it should.
    """
    try:
        return step()
    except (KpoError, NeedsWorkerError):
        raise
    except Exception as error:  # of a template, a macro, Jinja, Airflow, or the deployment's pod_mutation_hook
        raise NeedsWorkerError(f"{problem}: {type(error).__name__}: {error}") from error
