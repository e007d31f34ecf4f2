"""What is refused when the DAG is parsed: parameters that contradict each other, and those no pod can be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpo_async.exceptions import ConfigError, ManifestError
from kpo_async.pod import validate

if TYPE_CHECKING:
    from kpo_async.operators.pod import KubernetesPodOperator


def check_parameters(operator: KubernetesPodOperator) -> None:
    """Raises `ConfigError` or `ManifestError`, naming the parameter."""
    if operator.in_cluster and operator.config_file:
        raise ConfigError(
            f"{_where(operator)}: in_cluster=True and config_file={operator.config_file!r} name two clusters: "
            "give one of them"
        )
    given = operator.trigger_kwargs
    refuse_inline_kubeconfig(isinstance(given, dict) and "config_dict" in given)
    try:
        validate.validate(vars(operator))
    except ManifestError as error:
        raise ManifestError(f"{_where(operator)}: {error}") from error


def refuse_inline_kubeconfig(given: bool) -> None:
    """Raises `ConfigError` when a kubeconfig was `given` in the DAG: it would be stored wherever the task is."""
    if given:
        raise ConfigError(
            "config_dict is a kubeconfig, and what a task is given is stored in Airflow's database: put it in the "
            "extra `kube_config` of a connection and name that in kubernetes_conn_id, or in a file for config_file"
        ) from None  # the error in the course of which this is found shows it


def _where(operator: KubernetesPodOperator) -> str:
    return f"task {operator.task_id!r}"
