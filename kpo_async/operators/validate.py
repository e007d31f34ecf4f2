"""Reject contradictory or impossible parameters at DAG parse time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kpo_async.exceptions import ConfigError, ImportPathError, ManifestError
from kpo_async.import_path import to_import_path
from kpo_async.models import is_unrendered, plain
from kpo_async.operators.start_from_trigger import check_start
from kpo_async.pod import validate
from kpo_async.pod.quantity import parse_quantity

INLINE_KUBECONFIG = (
    "config_dict is a kubeconfig, and what a task is given is stored in Airflow's database: put it in the extra "
    "`kube_config` of a connection and name that in kubernetes_conn_id, or in a file for config_file"
)
"""Why a kubeconfig is refused, as a parameter and in `trigger_kwargs`."""
MOST_DISRUPTIONS = 100
"""How often a pod may be created again in one try: each attempt has a name that may have to be looked for."""


def check_parameters(values: Mapping[str, Any]) -> None:
    """Check the attributes of an operator. Raises `ConfigError` or `ManifestError`, naming task and parameter."""
    try:
        if values["in_cluster"] and values["config_file"]:
            raise ConfigError(
                f"in_cluster=True and config_file={values['config_file']!r} name two clusters: give one of them"
            )
        if values["cluster_hook"]:
            _check_cluster_hook(values)
        check_start(values)
        if values["trigger_kwargs"]:
            _check_trigger_kwargs(values["trigger_kwargs"])
        if values["callbacks"] or values["log_formatter"] or values["progress_callback"]:
            _check_callables(values)
        check_companions(values["companion_grace_seconds"], values["ignore_companions"])
        if values["retry_on_disruption"]:
            _check_retry_on_disruption(values["retry_on_disruption"])
        if values["on_oom"]:
            _check_on_oom(values["on_oom"], values["container_resources"])
        validate.validate(values)
    except (ConfigError, ImportPathError, ManifestError) as error:
        raise type(error)(f"task {values['task_id']!r}: {error}") from error


def _check_cluster_hook(values: Mapping[str, Any]) -> None:
    hook = values["cluster_hook"]
    if values["in_cluster"] or values["config_file"]:
        raise ConfigError("cluster_hook and in_cluster or config_file name two clusters: give one of them")
    if not callable(getattr(hook, "get_kubeconfig", None)):
        raise ConfigError(f"cluster_hook is {hook!r}: give a class with a method get_kubeconfig")
    if values["deferrable"]:
        to_import_path(hook)
    if values["cluster_hook_kwargs"]:
        try:
            msgspec.json.encode(values["cluster_hook_kwargs"])
        except TypeError as error:
            raise ConfigError(f"cluster_hook_kwargs are stored as JSON in a trigger's row: {error}") from None


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


def _check_retry_on_disruption(given: object) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= MOST_DISRUPTIONS:
        raise ConfigError(f"retry_on_disruption is {given!r}: give a whole number from 0 to {MOST_DISRUPTIONS}")


def _check_on_oom(given: object, resources: Any) -> None:
    """Check `on_oom`, also against `container_resources` as far as those are known before they are rendered."""
    example = 'for example {"memory": 2.0, "max": "16Gi"}'
    if not isinstance(given, Mapping):
        raise ConfigError(f"on_oom is a {type(given).__name__}: give a dict, {example}")
    if unknown := [key for key in given if key not in ("memory", "max")]:
        raise ConfigError(f"on_oom has the key {unknown[0]!r}: its keys are 'memory' and 'max', {example}")
    factor = given.get("memory")
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 1 < factor < math.inf:
        raise ConfigError(f"on_oom['memory'] is {factor!r}: give a factor above 1, {example}")
    if given.get("max") is None:
        return
    most = parse_quantity(given["max"])
    if not most or not isinstance(given["max"], str):
        raise ConfigError(f"on_oom['max'] is {given['max']!r}: give a quantity as text, {example}")
    if resources is None or is_unrendered(resources):
        return
    known = plain(resources)
    for kind in ("requests", "limits"):
        amounts = known.get(kind) if isinstance(known, Mapping) else None
        memory = amounts.get("memory") if isinstance(amounts, Mapping) else None
        if (amount := parse_quantity(memory)) is not None and most < amount:
            raise ConfigError(
                f"on_oom['max'] is {given['max']!r}, below the memory in container_resources[{kind!r}], {memory!r}: "
                "raise the one or lower the other"
            )
