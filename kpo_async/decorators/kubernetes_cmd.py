"""`@task.kubernetes_cmd_async`: the function runs in the worker and returns the pod's command.

A task that starts without a worker runs a function that can be imported in the triggerer.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator

from kpo_async.decorators.task_decorator import send_arguments, task_decorator
from kpo_async.json_types import Json
from kpo_async.operators.plain import NotPlainError, encode
from kpo_async.operators.pod import KubernetesPodOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


def kubernetes_cmd_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Run the command that the decorated function returns, a list of strings, in a pod. Templates in it are rendered.

    The decorator takes all parameters of `KubernetesPodOperator` except `cmds` and `arguments`. With `args_only=True`
    the function returns only the arguments, and the image's entrypoint is kept.

    :param python_callable: the function, when the decorator is used without parentheses.
    """
    return task_decorator(_KubernetesCmdDecoratedOperator, python_callable, kwargs)


class _KubernetesCmdDecoratedOperator(DecoratedOperator, KubernetesPodOperator):
    custom_operator_name = "@task.kubernetes_cmd_async"

    template_fields: Sequence[str] = ("op_args", "op_kwargs", *KubernetesPodOperator.template_fields)
    shallow_copy_attrs: Sequence[str] = ("python_callable",)
    # The command is known only after the function has run.
    overwrite_rtif_after_execution = True

    def __init__(self, *, python_callable: Callable[..., Any], args_only: bool = False, **kwargs: Any) -> None:
        given = [name for name in ("cmds", "arguments") if kwargs.pop(name, None) is not None]
        if given:
            warnings.warn(
                f"{self.custom_operator_name} ignores {' and '.join(given)}: the function returns the command, or with "
                "args_only=True the arguments",
                UserWarning,
                stacklevel=3,
            )
        kwargs.setdefault("name", f"k8s-airflow-pod-{python_callable.__name__}")
        super().__init__(python_callable=python_callable, cmds=None, arguments=None, **kwargs)
        self.args_only = args_only

    def execute(self, context: Context) -> Any:
        """Call the function for the command, then run the pod."""
        self._after_rendering(context)
        return super().execute(context)

    def _after_rendering(self, context: Context) -> None:
        """Call the function for the command."""
        command = self.render_template(self._command(context), context)
        self.cmds, self.arguments = ([], command) if self.args_only else (command, [])

    @classmethod
    def _to_trigger(cls, given: Mapping[str, Any]) -> Json:
        """Return a function that can be imported, and its arguments. See `PodOperatorBase`."""
        try:
            function = encode(given["python_callable"])
        except NotPlainError as error:
            raise NotPlainError(f"its function {error}") from error
        return {"python_callable": function, **send_arguments(given, "args_only")}

    def _command(self, context: Context) -> list[str]:
        command = self.python_callable(
            *self.op_args, **_accepted(self.python_callable, len(self.op_args), {**context, **self.op_kwargs})
        )
        name = self.python_callable.__name__
        if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
            raise TypeError(f"{name} must return a list of strings, the pod's command, but returned {command!r:.200}")
        if not command:
            raise ValueError(f"{name} returned an empty list, which is not a command")
        return command


def _accepted(function: Callable[..., Any], positional: int, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments and context variables that `function` takes by name."""
    parameters = list(inspect.signature(function).parameters.values())
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        taken = {parameter.name for parameter in parameters[:positional]}
        return {name: value for name, value in offered.items() if name not in taken}
    return {
        parameter.name: offered[parameter.name] for parameter in parameters[positional:] if parameter.name in offered
    }
