"""What is refused when the DAG is parsed: parameters that contradict each other, and those no pod can be made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpo_async.exceptions import ConfigError, ManifestError
from kpo_async.pod import validate
from kpo_async.pod.xcom_sidecar import Transport

if TYPE_CHECKING:
    from kpo_async.operators.pod import KubernetesPodOperator


def check_parameters(operator: KubernetesPodOperator) -> None:
    """Raises `ConfigError` or `ManifestError`, naming the parameter."""
    where = f"task {operator.task_id!r}"
    if operator.in_cluster and operator.config_file:
        raise ConfigError(
            f"{where}: in_cluster=True and config_file={operator.config_file!r} name two clusters: give one of them"
        )
    if operator.xcom_transport not in tuple(Transport):
        choices = ", ".join(Transport)
        raise ManifestError(f"{where}: xcom_transport is {operator.xcom_transport!r}: give one of {choices}")
    try:
        validate.validate(vars(operator))
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from error
