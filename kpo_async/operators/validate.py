"""Reject contradictory or impossible parameters at DAG parse time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from kpo_async.exceptions import ConfigError, ManifestError
from kpo_async.models import is_unrendered
from kpo_async.pod import validate

INLINE_KUBECONFIG = (
    "config_dict is a kubeconfig, and what a task is given is stored in Airflow's database: put it in the extra "
    "`kube_config` of a connection and name that in kubernetes_conn_id, or in a file for config_file"
)
"""Why a kubeconfig is refused, as a parameter and in `trigger_kwargs`."""


def check_parameters(values: Mapping[str, Any]) -> None:
    """Check the attributes of an operator. Raises `ConfigError` or `ManifestError`, naming task and parameter."""
    try:
        if values["in_cluster"] and values["config_file"]:
            raise ConfigError(
                f"in_cluster=True and config_file={values['config_file']!r} name two clusters: give one of them"
            )
        if values["trigger_kwargs"]:
            _check_trigger_kwargs(values["trigger_kwargs"])
        if values["callbacks"] or values["log_formatter"] or values["progress_callback"]:
            _check_callables(values)
        check_companions(values["companion_grace_seconds"], values["ignore_companions"])
        validate.validate(values)
    except (ConfigError, ManifestError) as error:
        raise type(error)(f"task {values['task_id']!r}: {error}") from error


def _check_trigger_kwargs(given: object) -> None:
    if isinstance(given, Mapping):
        if "config_dict" in given:
            raise ConfigError(INLINE_KUBECONFIG)
    elif not is_unrendered(given):
        raise ConfigError(f"trigger_kwargs is a {type(given).__name__}, a dict is needed")


def _check_callables(values: Mapping[str, Any]) -> None:
    """Refuse strings that name a callable: otherwise they would fail only when the pod runs."""
    for name in ("log_formatter", "progress_callback"):
        if values[name] is not None and not callable(values[name]):
            raise ConfigError(f"{name} is {values[name]!r}: give a function")
    given = values["callbacks"]
    for callback in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(callback, (str, bytes)):
            raise ConfigError(f"callbacks has {callback!r}: give the class itself")


def check_companions(grace: object, ignored: object) -> None:
    """Refuse a grace that is no number of seconds, and names that are none."""
    is_number = isinstance(grace, (int, float)) and not isinstance(grace, bool)
    if grace is not None and not (is_number and 0 <= grace < math.inf):  # type: ignore[operator]
        raise ConfigError(f"companion_grace_seconds is {grace!r}: give a number of seconds, or None for no limit")
    if ignored is None or isinstance(ignored, (bool, str)):
        return
    if not isinstance(ignored, Iterable) or not all(isinstance(name, str) for name in ignored):
        raise ConfigError(f"ignore_companions is {ignored!r}: give a list of containers' names, or True for all")
