"""Build manifests with the incumbent (provider 10.25.0), in its own steps: construct, render, clean the name, build."""

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
"""The errors that the incumbent raises for parameters that it cannot use."""
_LOG = logging.getLogger("tests.incumbent")
_LOG.setLevel(logging.CRITICAL)  # it logs every manifest at length
_SYNC = kubernetes.client.ApiClient(configuration=kubernetes.client.Configuration())


@dataclasses.dataclass(frozen=True)
class Connection:
    """Stand in for the provider's hook, so that no database and no cluster is needed."""

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
    """Return the incumbent's operator with `connection` for its connection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built = KubernetesPodOperator(**parameters)
    built.__dict__["hook"] = Connection(connection, in_cluster)
    built._cached_logger = _LOG
    return built


def build(
    parameters: Mapping[str, Any], task: TaskIdentity | None, connection: ConnectionDefaults, in_cluster: bool
) -> dict[str, Any]:
    """Return the manifest as the client would send it; without a task, that of a dry run. Raises one of `RAISES`."""
    built = operator(parameters, connection if task else ConnectionDefaults(), in_cluster)
    built.render_template_fields(context(task))
    built.name = built._set_name(built.name)
    pod = built.build_pod_request_obj(context(task) if task else None, dry_run=task is None)
    manifest: dict[str, Any] = plain(pod)
    return manifest


def context(task: TaskIdentity | None) -> Any:
    """Return the part of Airflow's context that matters for pods."""
    return {"ti": task, "run_id": task and task.run_id, "dag": types.SimpleNamespace(), "ds": "2026-01-02"}


def model(value: Mapping[str, Any], kind: str, package: Any = kubernetes.client) -> Any:
    """Return `value`, a part of a manifest, as the model `kind` of a client (`package`)."""
    client = package.ApiClient.__new__(package.ApiClient)
    client.configuration = package.Configuration()
    cls = getattr(package.models, kind, None) or getattr(package.models, "V1" + kind)
    return client._ApiClient__deserialize_model(value, cls)


ASYNC_CLIENT = kubernetes_asyncio.client


def plain(value: Any) -> Any:
    """Return `value` as the `kubernetes` client would send it."""
    return _SYNC.sanitize_for_serialization(value)
