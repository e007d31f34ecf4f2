"""What is refused when the DAG is parsed: parameters that contradict each other, and those no pod can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kpo_async.exceptions import ConfigError, ManifestError
from kpo_async.models import is_unrendered
from kpo_async.pod import validate

if TYPE_CHECKING:
    from kpo_async.operators.pod import KubernetesPodOperator

INLINE_KUBECONFIG = (
    "config_dict is a kubeconfig, and what a task is given is stored in Airflow's database: put it in the extra "
    "`kube_config` of a connection and name that in kubernetes_conn_id, or in a file for config_file"
)
"""Why it is refused, as a parameter or among the `trigger_kwargs`, and the way out."""


def check_parameters(operator: KubernetesPodOperator) -> None:
    """Raises `ConfigError` or `ManifestError`, naming the parameter."""
    if operator.in_cluster and operator.config_file:
        raise ConfigError(
            f"{_where(operator)}: in_cluster=True and config_file={operator.config_file!r} name two clusters: "
            "give one of them"
        )
    values = vars(operator)
    if values["trigger_kwargs"]:
        _check_trigger_kwargs(operator)
    if values["callbacks"] or values["log_formatter"] or values["progress_callback"]:
        _check_callables(operator)
    try:
        validate.validate(values)
    except ManifestError as error:
        raise ManifestError(f"{_where(operator)}: {error}") from error


def _check_trigger_kwargs(operator: KubernetesPodOperator) -> None:
    given: object = operator.trigger_kwargs
    if isinstance(given, Mapping):
        if "config_dict" in given:
            raise ConfigError(f"{_where(operator)}: {INLINE_KUBECONFIG}")
    elif not is_unrendered(given):
        raise ConfigError(f"{_where(operator)}: trigger_kwargs is a {type(given).__name__}, a dict is needed")


def _check_callables(operator: KubernetesPodOperator) -> None:
    """A string that names one would be found out when the pod already runs."""
    for name in ("log_formatter", "progress_callback"):
        function = getattr(operator, name)
        if function is not None and not callable(function):
            raise ConfigError(f"{_where(operator)}: {name} is {function!r}: give a function")
    given: object = operator.callbacks
    for callback in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(callback, (str, bytes)):
            raise ConfigError(f"{_where(operator)}: callbacks has {callback!r}: give the class itself")


def _where(operator: KubernetesPodOperator) -> str:
    return f"task {operator.task_id!r}"
