"""The metadata of this package for Airflow's providers manager, the `apache_airflow_provider` entry point.

Two providers must not register the same connection type or decorator. Where the incumbent is installed, its
`kubernetes` connection serves both, and this package adds only the decorators with other names.

Every component of Airflow reads the metadata when it starts, which makes this the place to prepare it for forking.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from kpo_async import preload
from kpo_async.hooks.fields import CONNECTION_TYPE, FIELDS, HIDDEN_FIELDS, HOOK_NAME
from kpo_async.options import configuration

INCUMBENT = "apache-airflow-providers-cncf-kubernetes"

_KUBERNETES_TASK = "kpo_async.decorators.kubernetes.kubernetes_task"
_KUBERNETES_CMD_TASK = "kpo_async.decorators.kubernetes_cmd.kubernetes_cmd_task"


def get_provider_info() -> dict[str, Any]:
    """Return the metadata for this environment, by the schema of Airflow's `provider_info.schema.json`."""
    preload.before_forks()
    return provider_info(incumbent_installed=_is_installed(INCUMBENT))


def provider_info(*, incumbent_installed: bool) -> dict[str, Any]:
    """Return the metadata for an environment with or without the incumbent."""
    info: dict[str, Any] = {
        "package-name": "kpo-async",
        "name": "Kubernetes (async)",
        "description": "The deferrable KubernetesPodOperator: one shared watch, live logs, no worker slot held.",
        "task-decorators": [
            {"name": "kubernetes_async", "class-name": _KUBERNETES_TASK},
            {"name": "kubernetes_cmd_async", "class-name": _KUBERNETES_CMD_TASK},
        ],
        "config": configuration(),
    }
    if not incumbent_installed:
        info["connection-types"] = [_connection_type()]
        info["task-decorators"] += [
            {"name": "kubernetes", "class-name": _KUBERNETES_TASK},
            {"name": "kubernetes_cmd", "class-name": _KUBERNETES_CMD_TASK},
        ]
    return info


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": CONNECTION_TYPE,
        "hook-class-name": "kpo_async.hooks.kubernetes.KubernetesHook",
        "hook-name": HOOK_NAME,
        "conn-fields": {field.name: field.to_schema() for field in FIELDS},
        "ui-field-behaviour": {"hidden-fields": list(HIDDEN_FIELDS)},
    }


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
