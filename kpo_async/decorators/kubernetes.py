"""`@task.kubernetes_async`: the function runs in the pod. Without the incumbent it is `@task.kubernetes` too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from kpo_async.decorators.payload import Serializer, pack
from kpo_async.hooks.airflow import load_lazy
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.pod.parameters import env_list
from kpo_async.pod.xcom_sidecar import RESULT_PATH

if TYPE_CHECKING:
    from airflow.sdk import Context


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
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_KubernetesDecoratedOperator,
        **kwargs,
    )


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
        self.serializer = Serializer(serializer or (Serializer.DILL if use_dill else Serializer.PICKLE))

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> dict[str, Any]:
        """The manifest, with the function and its arguments in it. See `KubernetesPodOperator`."""
        payload = pack(
            self.python_callable,
            load_lazy(self.op_args),
            load_lazy(self.op_kwargs),
            serializer=self.serializer,
            result=RESULT_PATH if self.do_xcom_push else None,
        )
        given = self.env_vars
        self.cmds, self.arguments = list(payload.command), []
        self.env_vars = [*(env_list(given) if isinstance(given, dict) else given or ()), *env_list(payload.environment)]
        try:
            return super().build_pod_request_obj(context, dry_run=dry_run)
        finally:
            self.env_vars = given
