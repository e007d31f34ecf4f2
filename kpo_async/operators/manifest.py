"""From an operator and its Airflow context to the manifest: the context's identity, the connection's defaults, the
deployment's `pod_mutation_hook`. How a manifest is put together is `pod.build`'s affair.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kpo_async import models
from kpo_async.hooks.airflow import AIRFLOW_VERSION, pod_mutation_hook
from kpo_async.hooks.kubernetes import resolve
from kpo_async.json_types import Json
from kpo_async.pod.build import build_pod
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod.parameters import PodParameters
from kpo_async.pod_task import ClusterRef

if TYPE_CHECKING:
    from airflow.sdk import Context

    from kpo_async.kube.auth.config import ClusterSource
    from kpo_async.operators.pod import KubernetesPodOperator


def build(operator: KubernetesPodOperator, context: Context | None, *, dry_run: bool = False) -> Json:
    """The manifest, after the deployment's `pod_mutation_hook`.

    Without a context nothing is asked of Airflow, and in a `dry_run` nothing about the connection.
    Raises `ManifestError` for parameters that make no pod, `ConfigError` for a connection that cannot be read.
    """
    parameters = PodParameters.of(values(operator), warn=operator.log.warning)
    if not context or dry_run:
        task = identity(context) if context else None
        manifest = build_pod(parameters, task=task, airflow_version=AIRFLOW_VERSION)
    else:
        source, defaults = asyncio.run(resolve(cluster_ref(operator)))
        manifest = build_pod(
            parameters,
            task=identity(context),
            connection=defaults,
            in_cluster=_is_in_cluster(source),
            airflow_version=AIRFLOW_VERSION,
        )
    return _mutated(manifest)


def cluster_ref(operator: KubernetesPodOperator) -> ClusterRef:
    """What the parameters say about the cluster."""
    return ClusterRef(
        conn_id=operator.kubernetes_conn_id,
        in_cluster=operator.in_cluster,
        config_file=operator.config_file,
        context=operator.cluster_context,
    )


def identity(context: Context) -> TaskIdentity:
    """Which try of which task instance `context` is about. One made by hand may lack what only Airflow knows."""
    ti = context["ti"]
    run_id = context.get("run_id") or ti.run_id
    map_index = -1 if ti.map_index is None else ti.map_index
    return TaskIdentity(
        id=str(getattr(ti, "id", None) or f"{ti.dag_id}/{ti.task_id}/{run_id}/{map_index}"),
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=run_id,
        try_number=ti.try_number,
        map_index=map_index,
    )


def base_container_name(operator: KubernetesPodOperator) -> str:
    """The parameter, or else what the class says."""
    return operator.base_container_name or operator.BASE_CONTAINER_NAME


def values(operator: KubernetesPodOperator) -> Mapping[str, Any]:
    """The operator's attributes, by parameter name, with the base container's name made certain."""
    return {**vars(operator), "base_container_name": base_container_name(operator)}


def _is_in_cluster(source: ClusterSource) -> bool:
    """Whether the configuration in use is the pod's own service account."""
    if source.in_cluster is not None:
        return source.in_cluster
    return not (source.config_file or source.config_dict) and "KUBERNETES_SERVICE_HOST" in os.environ


def _mutated(manifest: Json) -> Json:
    """The manifest after the deployment's hook. Only a hook that exists is worth a `V1Pod` and the client it needs."""
    hook = pod_mutation_hook()
    if hook is None:
        return manifest
    pod = models.to_v1pod(manifest)
    hook(pod)
    mutated: Json = models.to_dict(pod)
    return mutated
