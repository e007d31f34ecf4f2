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
    try:
        validate.validate(vars(operator))
    except ManifestError as error:
        raise ManifestError(f"{_where(operator)}: {error}") from error


def _where(operator: KubernetesPodOperator) -> str:
    return f"task {operator.task_id!r}"
