"""Build the manifest of an operator's pod: `pod.build` with the task's identity and the connection's defaults, followed
by the deployment's `pod_mutation_hook`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kpo_async import models
from kpo_async.exceptions import ConfigError
from kpo_async.hooks.airflow import AIRFLOW_VERSION, pod_mutation_hook
from kpo_async.hooks.cluster_hook import source_of
from kpo_async.hooks.settings import active_deadline_is_set
from kpo_async.hooks.sync import run_sync
from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource
from kpo_async.operators import attributes
from kpo_async.operators.base import PodOperatorBase
from kpo_async.pod.build import ConnectionDefaults, build_pod
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod.parameters import PodParameters
from kpo_async.pod_task import ClusterRef

if TYPE_CHECKING:
    from airflow.sdk import Context

DEADLINE_MARGIN = 120
"""Seconds that a pod may outlive its task's execution_timeout: Airflow's own time-out of a deferral comes after 60."""


def build(operator: PodOperatorBase, context: Context | None, *, dry_run: bool = False) -> Json:
    """Return the manifest, changed by the deployment's `pod_mutation_hook`.

    With a context, and unless it is a `dry_run`, the connection is read, in the event loop of the current run if there
    is one. Raises `ManifestError` for parameters that no pod can have, `ConfigError` for an unreadable connection.
    """
    task = identity(context) if context else None
    if task is not None and not dry_run:
        run = operator.current_run or run_sync
        return build_for(operator, task, *run(source_of_operator(operator)))
    parameters = PodParameters.of(values(operator), warn=operator.log.warning)
    manifest = build_pod(parameters, task=task, airflow_version=AIRFLOW_VERSION)
    _limit_time(manifest, operator)
    return _mutated(manifest)


def build_for(
    operator: PodOperatorBase, task: TaskIdentity, source: ClusterSource, defaults: ConnectionDefaults
) -> Json:
    """Do as `build` for a cluster that is resolved."""
    manifest = build_pod(
        PodParameters.of(values(operator), warn=operator.log.warning),
        task=task,
        connection=defaults,
        in_cluster=_is_in_cluster(source),
        airflow_version=AIRFLOW_VERSION,
    )
    _limit_time(manifest, operator)
    return _mutated(manifest)


def _limit_time(manifest: Json, operator: PodOperatorBase) -> None:
    """Have Kubernetes itself end a pod that outlives its task's execution_timeout: no process of Airflow may be left.

    Only as a backstop: the task's own time is over before, which counts from the try's start.
    """
    timeout = operator.execution_timeout
    if timeout is not None and "activeDeadlineSeconds" not in manifest["spec"] and active_deadline_is_set():
        manifest["spec"]["activeDeadlineSeconds"] = math.ceil(timeout.total_seconds()) + DEADLINE_MARGIN


async def source_of_operator(operator: PodOperatorBase) -> tuple[ClusterSource, ConnectionDefaults]:
    """Return where the operator's cluster is. Raises what `source_of` raises."""
    return await source_of(cluster_ref(operator), operator.cluster_hook, operator.cluster_hook_kwargs)


def cluster_ref(operator: PodOperatorBase) -> ClusterRef:
    """Return what the parameters say about the cluster."""
    in_cluster, config_file = operator.in_cluster, operator.config_file
    return ClusterRef(
        conn_id=operator.kubernetes_conn_id,
        in_cluster=None if in_cluster is None else bool(in_cluster),
        config_file=None if config_file is None else str(config_file),
        context=operator.cluster_context,
    )


def identity(context: Context) -> TaskIdentity:
    """Return the task instance and try of `context`. A context made by hand may lack what only Airflow knows."""
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


def base_container_name(operator: PodOperatorBase) -> str:
    """Return the parameter, or the class's name for it when the parameter was rendered to an empty string."""
    return operator.base_container_name or operator.BASE_CONTAINER_NAME


def values(operator: PodOperatorBase) -> Mapping[str, Any]:
    """Return what the manifest is built from, by parameter name, with a base container's name that is not empty."""
    own = {**attributes.read(operator, PodOperatorBase), "base_container_name": base_container_name(operator)}
    return operator._manifest_values(own)


def _is_in_cluster(source: ClusterSource) -> bool:
    """Whether the configuration in use is the pod's own service account."""
    if source.in_cluster is not None:
        return source.in_cluster
    return not (source.config_file or source.config_dict) and "KUBERNETES_SERVICE_HOST" in os.environ


def _mutated(manifest: Json) -> Json:
    """Apply the deployment's hook. Without one, no `V1Pod` is made, and the client it needs is not imported."""
    hook = pod_mutation_hook()
    if hook is None:
        return manifest
    pod = models.to_v1pod(manifest)
    try:
        hook(pod)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "kubernetes":
            raise
        raise ConfigError(
            f"the deployment's pod_mutation_hook imports {error.name!r}, which is not installed: "
            "pip install 'kpo-async[models]'"
        ) from error
    mutated: Json = models.to_dict(pod)
    return mutated
