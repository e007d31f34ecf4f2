"""What a decorated function becomes in a DAG file: called, it makes a task, and by `expand` a mapped one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from airflow.sdk import XComArg
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, _TaskDecorator

from kpo_async.json_types import Json
from kpo_async.operators.plain import NotPlainError, encode, encode_exactly
from kpo_async.operators.start_from_trigger import with_start


def task_decorator(
    operator_class: type[DecoratedOperator],
    function: Callable[..., Any] | None,
    kwargs: Mapping[str, Any],
    multiple_outputs: bool | None = None,
) -> TaskDecorator:
    """Return a decorator whose tasks are of `operator_class`; applied to `function`, if there is one.

    As Airflow's `task_decorator_factory`, whose mapped tasks would all start on workers.
    """

    def decorate(function: Callable[..., Any]) -> PodTaskDecorator:
        given: dict[str, Any] = {} if multiple_outputs is None else {"multiple_outputs": multiple_outputs}
        return PodTaskDecorator(function=function, operator_class=operator_class, kwargs=dict(kwargs), **given)

    if function is not None and not callable(function):
        raise TypeError("a task decorator has no positional arguments: use named ones")
    return cast("TaskDecorator", decorate if function is None else decorate(function))


class PodTaskDecorator(_TaskDecorator[Any, Any, Any]):
    """Airflow's, with mapped tasks that start in the triggerer if they should and can."""

    def _expand(self, expand_input: Any, *, strict: bool) -> XComArg:
        output: Any = super()._expand(expand_input, strict=strict)
        with_start(output.operator)
        return cast("XComArg", output)


def send_arguments(given: Mapping[str, Any], *more: str) -> Json:
    """Return the arguments of a task's function in plain form, and the settings in `more`. Raises `NotPlainError`.

    Airflow takes arguments from a DAG's `default_args` as well, when it unmaps a mapped task.
    """
    taken = inspect.signature(given["python_callable"]).parameters.keys() & given.get("default_args", {}).keys()
    op_kwargs = {**{name: given["default_args"][name] for name in taken}, **given["op_kwargs"]}
    try:
        sent = {"op_args": encode_exactly(list(given["op_args"])), "op_kwargs": encode_exactly(op_kwargs)}
    except NotPlainError as error:
        raise NotPlainError(f"an argument of its function {error}") from error
    return {**sent, **{name: encode(given[name]) for name in more if name in given}}
