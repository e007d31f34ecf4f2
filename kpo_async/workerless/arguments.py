"""The operator of a task that starts in the triggerer, made from the trigger's arguments."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, TriggerRule

from kpo_async.exceptions import ImportPathError, KpoError
from kpo_async.hooks import settings
from kpo_async.import_path import from_import_path
from kpo_async.json_types import Json
from kpo_async.operators.plain import decode
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.start_from_trigger import pod_parameters
from kpo_async.workerless.context import NeedsWorkerError
from kpo_async.workerless.mapping import mapped_arguments

if TYPE_CHECKING:
    import jinja2

POD = "kpo_async.operators.pod:KubernetesPodOperator"
MADE_HERE = frozenset({"task_id", "multiple_outputs", "start_from_trigger", "weight_rule"})
"""Attributes of the operator that are right as it is made, or of which a serialized DAG has something else."""


@dataclass(frozen=True)
class Start:
    """What is known about a task before its templates are rendered.

    `from_xcoms` are values that are data, not templates, whatever is in them.
    """

    operator: KubernetesPodOperator
    from_xcoms: Sequence[Any]
    may_end: bool
    """Whether a triggerer can do all that belongs to the end of the task."""
    mapped_over: bool = False
    """Whether other tasks are mapped over the result."""
    may_fail: bool = True
    """Whether a triggerer can do all that belongs to a failure of the task."""


def fails_in_triggerer(arguments: str) -> bool:
    """Return whether the triggerer should end a failed task and can, as far as is known without its operator."""
    given = json.loads(arguments)
    may = given["may_end"] and given.get("may_fail", True)
    return bool(may and given["parameters"].get("end_from_trigger", settings.switch("end_from_trigger")))


async def read(arguments: str, task_instance: Any) -> Start:
    """Return the operator of a trigger's task. Raises `KpoError`, and `NeedsWorkerError`."""
    given, task = json.loads(arguments), task_instance.task
    mapped, data = await mapped_arguments(task, task_instance) if task.is_mapped else ({}, ())
    operator = operator_of(given, task_instance.task_id, task, mapped)
    _put_into_dag(operator, task)
    return Start(operator, data, given["may_end"], given.get("mapped_over", False), given.get("may_fail", True))


def operator_of(
    given: Json, task_id: str, task: Any = None, mapped: Mapping[str, Any] | None = None
) -> KubernetesPodOperator:
    """Return the operator of what `operators.start_from_trigger` has sent.

    `mapped` are the arguments of one map index of the mapped `task`. Raises `KpoError`, and `NeedsWorkerError`.
    """
    try:
        kind = from_import_path(given.get("operator", POD))
        parameters = kind._from_trigger({name: decode(value) for name, value in given["parameters"].items()})
    except ImportPathError as error:
        raise NeedsWorkerError(str(error)) from error
    if unknown := parameters.keys() - _known_parameters(kind):
        raise NeedsWorkerError(f"this triggerer's kpo-async is too old for {', '.join(sorted(unknown))}")
    if mapped:
        _map(parameters, kind, task, mapped)
    fixed = {"deferrable": True, "start_from_trigger": False, "multiple_outputs": given["multiple_outputs"]}
    try:
        operator: KubernetesPodOperator = kind(task_id=task_id, **parameters, **fixed)
    except KpoError:
        raise
    except Exception as error:  # what Airflow raises for unknown arguments, or for missing ones of a function
        raise NeedsWorkerError(f"its arguments do not fit: {type(error).__name__}: {error}") from error
    return operator


def _map(parameters: Json, kind: Any, task: Any, mapped: Mapping[str, Any]) -> None:
    """Add the arguments of one map index. Raises `NeedsWorkerError` for what a worker applies, or refuses."""
    shared, into = task.partial_kwargs, parameters
    if task._expand_input_attr == "op_kwargs_expand_input":
        shared, into = shared.get("op_kwargs", {}), parameters["op_kwargs"]
    elif airflows := mapped.keys() - pod_parameters(kind):
        raise NeedsWorkerError(f"it is mapped over {', '.join(sorted(airflows))}, by which Airflow starts a task")
    if task._disallow_kwargs_override and (twice := shared.keys() & mapped.keys()):
        raise NeedsWorkerError(f"it is mapped over {', '.join(sorted(twice))}, which partial() has given as well")
    into.update(mapped)


def _put_into_dag(operator: KubernetesPodOperator, task: Any) -> None:
    """Give the operator what Airflow has stored of its task, `owner` and the rest: templates and callbacks may use it.

    Straight into `__dict__`: Airflow's `__setattr__` would have the operator join the DAG, which has its task already.
    """
    own, shared = vars(operator), task.partial_kwargs if task.is_mapped else {}
    stored = BaseOperator.get_serialized_fields() & own.keys()
    for name in {*stored, "upstream_task_ids", "task_group"} - pod_parameters(type(operator)).keys() - MADE_HERE:
        own[name] = getattr(task, name, shared.get(name, own[name]))
    environment = template_environment(native=renders_native_objects(task))
    own.update(
        _dag=task.dag, trigger_rule=TriggerRule(task.trigger_rule), get_template_env=lambda dag=None: environment
    )


@lru_cache
def _known_parameters(kind: type) -> frozenset[str]:
    """Return the names of the parameters that a class and its bases declare."""
    constructors = [vars(cls)["__init__"] for cls in kind.__mro__ if "__init__" in vars(cls)]
    return frozenset(name for constructor in constructors for name in inspect.signature(constructor).parameters)


def renders_native_objects(task: Any) -> bool:
    """Return whether the task's templates give native objects: by its own parameter, or by its DAG's."""
    name = "render_template_as_native_obj"
    own = task.partial_kwargs.get(name) if task.is_mapped else getattr(task, name, None)
    return bool(task.dag.render_template_as_native_obj if own is None else own)


@lru_cache(maxsize=2)
def template_environment(*, native: bool) -> jinja2.Environment:
    """Return Airflow's Jinja environment. It has no files, and no macros of the user's."""
    return DAG("kpo_async", schedule=None, render_template_as_native_obj=native).get_template_env()
