"""The operator of a task that starts in the triggerer, made from the trigger's arguments."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from kpo_async.exceptions import ManifestError
from kpo_async.hooks.airflow import get_xcom
from kpo_async.kube.shared import SingleFlight
from kpo_async.operators.plain import XComReference, decode, reference
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.workerless.context import NeedsWorkerError

if TYPE_CHECKING:
    import jinja2

FRESH_FOR = 60.0
"""Seconds for which the map indexes of a task share what they are mapped over."""
_XCOMS: SingleFlight[tuple[str, str, XComReference], Any] = SingleFlight("mapped XCom", fresh_for=FRESH_FOR)


@dataclass(frozen=True)
class Start:
    """What is known about a task before its templates are rendered.

    `from_xcoms` are values that are data, not templates, whatever is in them.
    """

    operator: KubernetesPodOperator
    from_xcoms: Sequence[Any]
    may_end: bool
    """Whether a triggerer can do all that belongs to the end of the task."""


async def read(arguments: str, task_instance: Any) -> Start:
    """Return the operator of a trigger's task. Raises `KpoError`, and `NeedsWorkerError`."""
    given = json.loads(arguments)
    task = task_instance.task
    mapped, data = await _mapped_arguments(task, task_instance) if task.is_mapped else ({}, ())
    parameters = {**given["parameters"], **mapped}
    if unknown := parameters.keys() - _known_parameters():
        raise NeedsWorkerError(f"this triggerer's kpo-async is too old for {', '.join(sorted(unknown))}")
    operator = KubernetesPodOperator(
        task_id=task_instance.task_id,
        **{name: decode(value) if name not in mapped else value for name, value in parameters.items()},
        deferrable=True,
        start_from_trigger=False,
        multiple_outputs=given["multiple_outputs"],
        execution_timeout=task.execution_timeout,
    )
    return Start(operator, data, given["may_end"])


@lru_cache(maxsize=1)
def _known_parameters() -> frozenset[str]:
    return frozenset(inspect.signature(KubernetesPodOperator.__init__).parameters)


@lru_cache(maxsize=2)
def template_environment(*, native: bool) -> jinja2.Environment:
    """Return Airflow's Jinja environment. It has no files, and no macros of the user's."""
    return DAG("kpo_async", schedule=None, render_template_as_native_obj=native).get_template_env()


async def _mapped_arguments(task: Any, task_instance: Any) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the arguments of this map index, and those among them that come from XComs."""
    value, index = task._get_specified_expand_input().value, task_instance.map_index
    if isinstance(value, Mapping):
        return await _from_product(value, index, task_instance)
    return await _from_list(value, index, task_instance)


async def _from_product(
    lists: Mapping[str, Any], index: int, task_instance: Any
) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the arguments at `index` of the cross product, in which the last list is the fastest."""
    values = {name: await _pulled(value, task_instance) for name, value in lists.items()}
    found: dict[str, Any] = {}
    for name, value in reversed(values.items()):
        if not isinstance(value, (Sequence, Mapping)) or isinstance(value, (str, bytes)):
            raise ManifestError(f"{name} is mapped over a {type(value).__name__}, a list or a dict is needed")
        if not value:
            raise ManifestError(f"{name} is mapped over nothing")
        index, at = divmod(index, len(value))
        found[name] = list(value.items())[at] if isinstance(value, Mapping) else value[at]
    return found, [item for name, item in found.items() if reference(lists[name])]


async def _from_list(value: Any, index: int, task_instance: Any) -> tuple[Mapping[str, Any], Sequence[Any]]:
    sets = await _pulled(value, task_instance)
    if not isinstance(sets, Sequence) or isinstance(sets, (str, bytes)):
        raise ManifestError(f"expand_kwargs() is given a {type(sets).__name__}, a list of dicts is needed")
    found = await _pulled(sets[index], task_instance)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ManifestError(f"expand_kwargs() is given a {type(found).__name__} at map index {index}, not a dict")
    return found, list(found.values()) if reference(value) or reference(sets[index]) else []


async def _pulled(value: Any, task_instance: Any) -> Any:
    """Return the XCom that `value` refers to, which all map indexes read once; or else `value`."""
    found = reference(value)
    if found is None:
        if callable(getattr(value, "resolve", None)) or hasattr(value, "iter_references"):
            raise NeedsWorkerError(f"it is mapped over a {type(value).__name__}")
        return value
    run = (task_instance.dag_id, task_instance.run_id, found)
    return await _XCOMS.run(run, lambda: get_xcom(*run[:2], found.task_id, found.key))
