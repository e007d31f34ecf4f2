"""The incumbent (provider 10.25.0), run as it runs: construct, render, clean the name, build. For comparison only."""

from __future__ import annotations

import dataclasses
import logging
import types
import warnings
from collections.abc import Mapping
from typing import Any

from kpo_async.pod.build import ConnectionDefaults
from kpo_async.pod.names import TaskIdentity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Airflow's and the provider's own imports
    import kubernetes.client
    import kubernetes_asyncio.client
    from airflow.exceptions import AirflowException
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value as make_safe_label_value
    from airflow.providers.cncf.kubernetes.secret import Secret as Secret

RAISES = (AirflowException, AttributeError, TypeError, ValueError)
"""What the incumbent raises for parameters that it cannot use."""
_LOG = logging.getLogger("tests.incumbent")
_LOG.setLevel(logging.CRITICAL)  # it says at length what it builds, every time
_SYNC = kubernetes.client.ApiClient(configuration=kubernetes.client.Configuration())


@dataclasses.dataclass(frozen=True)
class Connection:
    """Stands in for the provider's hook: what a connection would answer, without a database or a cluster."""

    defaults: ConnectionDefaults
    is_in_cluster: bool

    def get_namespace(self) -> str | None:
        return self.defaults.namespace

    def get_xcom_sidecar_container_image(self) -> str | None:
        return self.defaults.xcom_sidecar_image

    def get_xcom_sidecar_container_resources(self) -> Any:
        return self.defaults.xcom_sidecar_resources

    def get_xcom_sidecar_container_security_context(self) -> Any:
        return self.defaults.xcom_sidecar_security_context


def operator(parameters: Mapping[str, Any], connection: ConnectionDefaults, in_cluster: bool) -> Any:
    """A KubernetesPodOperator whose connection is `connection`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = KubernetesPodOperator(**parameters)
    built.__dict__["hook"] = Connection(connection, in_cluster)
    built._cached_logger = _LOG
    return built


def build(
    parameters: Mapping[str, Any], task: TaskIdentity | None, connection: ConnectionDefaults, in_cluster: bool
) -> dict[str, Any]:
    """The manifest, as the client would send it; a dry run without a task. Raises whatever the incumbent raises."""
    built = operator(parameters, connection if task else ConnectionDefaults(), in_cluster)
    built.render_template_fields(context(task))
    built.name = built._set_name(built.name)
    pod = built.build_pod_request_obj(context(task) if task else None, dry_run=task is None)
    manifest: dict[str, Any] = plain(pod)
    return manifest


def context(task: TaskIdentity | None) -> Any:
    """What Airflow tells a task about itself, as far as pods are concerned."""
    return {"ti": task, "run_id": task and task.run_id, "dag": types.SimpleNamespace(), "ds": "2026-01-02"}


def model(value: Mapping[str, Any], kind: str, package: Any = kubernetes.client) -> Any:
    """A manifest's part `value` as the model `kind` of a client (`package`)."""
    client = package.ApiClient.__new__(package.ApiClient)
    client.configuration = package.Configuration()
    cls = getattr(package.models, kind, None) or getattr(package.models, "V1" + kind)
    return client._ApiClient__deserialize_model(value, cls)


ASYNC_CLIENT = kubernetes_asyncio.client


def plain(value: Any) -> Any:
    """What `kubernetes` would send."""
    return _SYNC.sanitize_for_serialization(value)
