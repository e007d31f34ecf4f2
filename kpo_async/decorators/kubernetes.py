"""`@task.kubernetes_async`: the function runs in the pod. Without the incumbent it is `@task.kubernetes` too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator

from kpo_async.decorators import source
from kpo_async.decorators.payload import Serializer, pack
from kpo_async.decorators.task_decorator import send_arguments, task_decorator
from kpo_async.exceptions import ManifestError
from kpo_async.hooks.airflow import load_lazy
from kpo_async.json_types import Json
from kpo_async.operators.plain import NotPlainError
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.pod.parameters import env_list
from kpo_async.pod.xcom_sidecar import RESULT_PATH


def kubernetes_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Run the decorated function in a pod of `image`, which needs only `sh` and Python 3.7 or newer.

    Only the function itself is sent: it must import and define inside of it what it needs. With `do_xcom_push=True` its
    return value, which must be JSON serializable, becomes the task's XCom. The decorator takes all parameters of
    `KubernetesPodOperator` except `cmds` and `arguments`, and `serializer` ("pickle", "cloudpickle" or "dill") for
    arguments that pickle cannot express.

    :param python_callable: the function, when the decorator is used without parentheses.
    :param multiple_outputs: push each key of a returned dict as its own XCom; by default inferred from the return type.
    """
    return task_decorator(_KubernetesDecoratedOperator, python_callable, kwargs, multiple_outputs)


class _KubernetesDecoratedOperator(DecoratedOperator, KubernetesPodOperator):
    custom_operator_name = "@task.kubernetes_async"

    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        *(field for field in KubernetesPodOperator.template_fields if field not in {"cmds", "arguments"}),
    )
    # Some functions cannot be copied deeply.
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        serializer: str | None = None,
        use_dill: bool = False,
        **kwargs: Any,
    ) -> None:
        for taken in ("cmds", "arguments"):
            if kwargs.get(taken) is not None:
                raise TypeError(f"{self.custom_operator_name} runs the function: it cannot take {taken} as well")
        kwargs.setdefault("name", f"k8s-airflow-pod-{python_callable.__name__}")
        super().__init__(python_callable=python_callable, **kwargs)
        self.serializer = _serializer(serializer, use_dill)

    @classmethod
    def _to_trigger(cls, given: Mapping[str, Any]) -> Json:
        """Return the function's source, and its arguments. See `PodOperatorBase`."""
        serializer = _serializer(given.get("serializer"), given.get("use_dill"))
        if serializer is not Serializer.PICKLE:
            raise NotPlainError(f"serializer={serializer.value!r} may need the objects of the DAG file")
        try:
            function = source.send(given["python_callable"])
        except ManifestError as error:
            raise NotPlainError(str(error)) from error
        return {"python_callable": function, **send_arguments(given)}

    @classmethod
    def _from_trigger(cls, sent: Json) -> Json:
        """See `PodOperatorBase`."""
        return {**sent, "python_callable": source.receive(sent["python_callable"])}

    def _manifest_values(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the function and its arguments. See `PodOperatorBase`."""
        payload = pack(
            self.python_callable,
            load_lazy(self.op_args),
            load_lazy(self.op_kwargs),
            serializer=self.serializer,
            result=RESULT_PATH if self.do_xcom_push else None,
        )
        given = values["env_vars"]
        variables = [*(env_list(given) if isinstance(given, dict) else given or ()), *env_list(payload.environment)]
        return {**values, "cmds": list(payload.command), "arguments": [], "env_vars": variables}


def _serializer(named: str | None, use_dill: object) -> Serializer:
    return Serializer(named or (Serializer.DILL if use_dill else Serializer.PICKLE))
