"""Build the manifest from the parameters. Precedence:

    the operator's parameters  >  full_pod_spec  >  pod_template_file or else pod_template_dict

After the merge come, in this order: the name and its suffix, the namespace, secrets, the XCom sidecar, the task's
labels, Airflow's labels. The caller then applies the deployment's `pod_mutation_hook`, which needs Airflow.
`restartPolicy` is always Never: retries are Airflow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kpo_async.json_types import Json
from kpo_async.models import is_unrendered, to_dict
from kpo_async.pod import names, xcom_sidecar
from kpo_async.pod.merge import base_first, merge_pods
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod.parameters import PodParameters
from kpo_async.pod.schema import spell
from kpo_async.secret import Secret

__all__ = ["ConnectionDefaults", "PodParameters", "TaskIdentity", "build_pod"]

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, kw_only=True)
class ConnectionDefaults:
    """The connection's defaults for pods; `namespace` is the connection's or else the service account's."""

    namespace: str | None = None
    xcom_sidecar_image: str | None = None
    xcom_sidecar_resources: Mapping[str, Any] | None = None
    xcom_sidecar_security_context: Mapping[str, Any] | None = None


def build_pod(
    params: PodParameters,
    *,
    task: TaskIdentity | None = None,
    connection: ConnectionDefaults | None = None,
    in_cluster: bool | None = None,
    airflow_version: str = "",
) -> Json:
    """Return the pod's manifest, a fresh dict that the caller may change.

    Without a `task` (a dry run) the suffix is random and no label or annotation names an owner. With `in_cluster` None
    there is no label for it. Raise ManifestError for an impossible name or shape.
    """
    connection = connection or ConnectionDefaults()
    manifest = _merged(params, _name(params, task))
    _set_identity(manifest, params, task, connection)
    for secret in params.secrets:
        manifest = Secret.of(secret).attach_to_pod(manifest)
    if params.do_xcom_push:
        manifest = _attach_sidecar(manifest, params, connection)
    _set_labels(manifest, task, in_cluster, airflow_version)
    return manifest


def _name(params: PodParameters, task: TaskIdentity | None) -> str | None:
    """Return the cleaned name; in a dry run an unrendered template stays as it is."""
    if params.name is None or (task is None and is_unrendered(params.name)):
        return params.name
    return names.clean(params.name)


def _merged(params: PodParameters, name: str | None) -> Json:
    template: Mapping[str, Any] = params.pod_template or {}
    if params.full_pod_spec:
        template = merge_pods(template, params.full_pod_spec)
    template = base_first(template, params.base_container_name)
    merged: Json = to_dict(merge_pods(template, _from_parameters(params, name)))
    return merged


def _from_parameters(params: PodParameters, name: str | None) -> Json:
    metadata = {
        "name": name,
        "namespace": params.namespace,
        "labels": {key: "" if value is None else value for key, value in params.labels.items()},
        "annotations": params.annotations,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _without_none(metadata),
        "spec": _without_none(_spec(params)),
    }


def _spec(params: PodParameters) -> Json:
    return {
        "containers": [_without_none(_container(params))],
        "initContainers": params.init_containers,
        "volumes": params.volumes,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": params.active_deadline_seconds,
        "terminationGracePeriodSeconds": params.termination_grace_period,
        "nodeSelector": params.node_selector,
        "affinity": params.affinity,
        "tolerations": params.tolerations,
        "schedulerName": params.schedulername,
        "priorityClassName": params.priority_class_name,
        "runtimeClassName": params.runtime_class_name,
        "imagePullSecrets": params.image_pull_secrets,
        "serviceAccountName": params.service_account_name,
        "automountServiceAccountToken": params.automount_service_account_token,
        "securityContext": params.security_context,
        "hostNetwork": params.hostnetwork,
        "hostAliases": params.host_aliases,
        "hostname": params.hostname,
        "subdomain": params.subdomain,
        "dnsPolicy": params.dnspolicy,
        "dnsConfig": params.dns_config,
    }


def _container(params: PodParameters) -> Json:
    configmaps = [{"configMapRef": {"name": name}} for name in params.configmaps]
    return {
        "name": params.base_container_name,
        "image": params.image,
        "imagePullPolicy": params.image_pull_policy,
        "command": params.cmds,
        "args": params.arguments,
        "env": [*params.env_vars, *params.pod_runtime_info_envs],
        "envFrom": [*params.env_from, *configmaps],
        "ports": params.ports,
        "volumeMounts": params.volume_mounts,
        "resources": params.container_resources,
        "securityContext": params.container_security_context,
        "terminationMessagePolicy": params.termination_message_policy,
    }


def _without_none(fields: Json) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _set_identity(
    manifest: Json, params: PodParameters, task: TaskIdentity | None, connection: ConnectionDefaults
) -> None:
    metadata = manifest["metadata"]
    unique = None
    if params.random_name_suffix:
        unique = names.suffix(task) if task else names.random_suffix()
    metadata["name"] = names.pod_name(metadata.get("name") or names.from_task_id(params.task_id), unique)
    metadata["namespace"] = metadata.get("namespace") or connection.namespace or DEFAULT_NAMESPACE


def _attach_sidecar(manifest: Json, params: PodParameters, connection: ConnectionDefaults) -> Json:
    security_context: Mapping[str, Any] | None = params.xcom_sidecar_container_security_context
    if security_context is None:
        security_context = connection.xcom_sidecar_security_context
    origin = "the connection's xcom_sidecar_container"
    return xcom_sidecar.attach(
        manifest,
        base=manifest["spec"]["containers"][0]["name"],
        transport=params.xcom_transport,
        image=connection.xcom_sidecar_image,
        resources=spell(connection.xcom_sidecar_resources, "ResourceRequirements", f"{origin}_resources"),
        security_context=spell(security_context, "SecurityContext", f"{origin}_security_context"),
    )


def _set_labels(manifest: Json, task: TaskIdentity | None, in_cluster: bool | None, airflow_version: str) -> None:
    if task:
        manifest["metadata"]["labels"].update(names.task_labels(task))
        names.mark(manifest["metadata"], task.owner)
    labels = manifest["metadata"]["labels"]
    if airflow_version:
        labels["airflow_version"] = airflow_version.replace("+", "-")
    if in_cluster is not None:
        labels["airflow_kpo_in_cluster"] = str(in_cluster)
