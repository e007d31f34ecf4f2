"""The names that users import, and those that Airflow's database and configuration hold, are where they were."""

from __future__ import annotations

from importlib import import_module

import pytest

import kpo_async
from kpo_async import pod_task

PUBLIC = {
    "kpo_async": ["KubernetesPodOperator", "KubernetesPodOperatorCallback", "Secret", "__version__"],
    "kpo_async.callbacks": ["ExecutionMode", "KubernetesPodOperatorCallback"],
    "kpo_async.decorators.kubernetes": ["kubernetes_task"],
    "kpo_async.decorators.kubernetes_cmd": ["kubernetes_cmd_task"],
    "kpo_async.exceptions": [
        "ApiError",
        "CallbackError",
        "CallbackTimeoutError",
        "ConfigError",
        "ConflictError",
        "ExpiredError",
        "ForbiddenError",
        "ImportPathError",
        "IncompatibleError",
        "InvalidError",
        "KpoError",
        "ManifestError",
        "NotFoundError",
        "NotStartedError",
        "PodConflictError",
        "PodError",
        "PodStartError",
        "ServerError",
        "ThrottledError",
        "UnauthorizedError",
        "UnreachableError",
        "XComError",
    ],
    "kpo_async.get_provider_info": ["get_provider_info"],
    "kpo_async.hooks.kubernetes": ["KubernetesHook"],
    "kpo_async.localcluster": ["LocalCluster"],
    "kpo_async.localcluster.cluster": ["LocalCluster"],
    "kpo_async.models": ["to_v1pod"],
    "kpo_async.operators.pod": ["KubernetesPodOperator"],
    "kpo_async.operators.worker": [],  # users' airflow_local_settings may preload it
    "kpo_async.pod_task": ["OnFinishAction", "OnKillAction"],
    "kpo_async.secret": ["Secret"],
    "kpo_async.triggers.pod": ["KubernetesPodTrigger"],  # rows of deferred tasks hold this path
}


@pytest.mark.parametrize("module", PUBLIC)
def test_what_users_import_is_there(module: str) -> None:
    imported = import_module(module)
    for name in PUBLIC[module]:
        assert getattr(imported, name)


def test_the_package_offers_no_other_names() -> None:
    assert sorted(kpo_async.__all__) == sorted(PUBLIC["kpo_async"])
    assert not hasattr(kpo_async, "Pod")


def test_every_error_is_public() -> None:
    exceptions = import_module("kpo_async.exceptions")
    errors = [name for name, value in vars(exceptions).items() if isinstance(value, type)]
    assert sorted(errors) == PUBLIC["kpo_async.exceptions"]


@pytest.mark.parametrize("name", ["OnFinishAction", "OnKillAction"])
def test_the_old_home_of_the_actions_warns(name: str) -> None:
    handover = import_module("kpo_async.handover")
    with pytest.deprecated_call(match=f"kpo_async.handover.{name} is deprecated: import it from kpo_async.pod_task"):
        assert getattr(handover, name) is getattr(pod_task, name)
    assert not hasattr(handover, "PodTask")
