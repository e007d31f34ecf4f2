"""The manifests of the operator's parameters are accepted by an API server (`dryRun=All`, no unknown fields)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.pod.build import PodParameters, TaskIdentity, build_pod
from kpo_async.pod.validate import validate
from kpo_async.secret import Secret
from tests.conformance.api import IMAGE, Api

TASK = TaskIdentity("0190c6f2", "my.dag", "group.täsk", "manual__2026-01-02T03:04:05+00:00", 2, 7)
TEMPLATE = {
    "metadata": {"labels": {"number": 1, "yes": True}},
    "spec": {
        "containers": [
            {"name": "x", "env": [{"name": "T", "value": 1}], "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}},
            {"name": "side", "image": IMAGE, "ports": [{"containerPort": "8080"}]},
        ],
        "volumes": [{"name": "t", "emptyDir": {}}],
        "restartPolicy": "Always",
    },
}
ACCEPTED: Mapping[str, Mapping[str, Any]] = {
    "nothing but an image": {},
    "a name that needs repair": {"name": "_Hello_World_", "random_name_suffix": False},
    "a task id of any script": {"task_id": "任务_" * 30},
    "names, labels and annotations": {
        "name": "Transform_Orders",
        "labels": {"team": "orders", "empty": None, "example.com/tier": "a.b_c"},
        "annotations": {"Example.com/Note": "anything: {} ü"},
    },
    "command and environment": {
        "cmds": ["sh", "-c"],
        "arguments": ["echo $A"],
        "env_vars": {"A": "1", "my.var-1": "2", "NONE": None},
        "pod_runtime_info_envs": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "env_from": [{"prefix": "P_", "secretRef": {"name": "s", "optional": True}}],
        "configmaps": ["settings"],
    },
    "secrets": {
        "secrets": [
            Secret("env", "password", "db", "key"),
            Secret("env", None, "all"),
            Secret("volume", "/etc/one", "db", items=[{"key": "k", "path": "p"}]),
            Secret("volume", "/etc/two", "db"),
        ]
    },
    "volumes and containers": {
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
        "volume_mounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}],
        "ports": [{"containerPort": 80, "name": "web"}],
        "init_containers": [{"name": "i", "image": IMAGE, "restartPolicy": "Always"}],
        "container_resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
        "base_container_name": "main",
    },
    "placement": {
        "node_selector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {}}
                ]
            }
        },
        "schedulername": "mine",
    },
    "network": {
        "hostname": "host",
        "subdomain": "sub",
        "dnspolicy": "None",
        "dns_config": {"nameservers": ["10.0.0.1"], "options": [{"name": "ndots", "value": "1"}]},
        "host_aliases": [{"ip": "10.0.0.2", "hostnames": ["a"]}],
        "hostnetwork": True,
    },
    "security": {
        "security_context": {"runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "container_security_context": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "service_account_name": "default",
        "automount_service_account_token": False,
        "image_pull_secrets": "a, b",
    },
    "limits of time": {"active_deadline_seconds": 60, "termination_grace_period": 5},
    "policies": {"image_pull_policy": "IfNotPresent", "termination_message_policy": "FallbackToLogsOnError"},
    "a result": {"do_xcom_push": True},
    "a result, the classic way": {"do_xcom_push": True, "xcom_transport": "exec"},
    "a template as YAML has it": {"pod_template_dict": TEMPLATE, "env_vars": {"A": "1"}},
    "a whole pod on a template": {
        "pod_template_dict": TEMPLATE,
        "full_pod_spec": {"spec": {"containers": [{"name": "c", "image": IMAGE}], "hostname": "full"}},
    },
    "everything empty": {
        **{
            name: {}
            for name in ("labels", "annotations", "node_selector", "affinity", "dns_config", "security_context")
        },
        **{name: [] for name in ("volumes", "ports", "env_vars", "tolerations", "init_containers", "host_aliases")},
        "container_resources": {},
        "image_pull_policy": "",
    },
}


def manifest(namespace: str, **values: Any) -> dict[str, Any]:
    parameters = PodParameters.of({"task_id": "t", "image": IMAGE, "namespace": namespace, **values}, warn=pytest.fail)
    return build_pod(parameters, task=TASK, in_cluster=False, airflow_version="3.3.2+local")


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED)
async def test_a_manifest_is_accepted(api: Api, values: Mapping[str, Any]) -> None:
    validate(values)
    answer = await api.create("pods", manifest(api.namespace, **values), dryRun="All", fieldValidation="Strict")
    assert answer.status == 201, answer.body


REFUSED: Mapping[str, Mapping[str, Any]] = {
    "a label is illegal": {"labels": {"a": "-x"}},
    "a label's name is illegal": {"labels": {"Example.com/a": "x"}},
    "a node selector is illegal": {"node_selector": {"a": "-"}},
    "a variable's name has an equals sign": {"env_vars": {"A=B": "1"}},
    "hostname is not a label": {"hostname": "a.b"},
    "subdomain is not a label": {"subdomain": "A"},
    "image has a space": {"image": " busybox"},
    "image_pull_policy is unknown": {"image_pull_policy": "always"},
    "dnspolicy is unknown": {"dnspolicy": "Mine"},
    "termination_message_policy is unknown": {"termination_message_policy": "Loudly"},
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
async def test_values_that_the_parser_refuses_are_refused_by_the_server(api: Api, values: Mapping[str, Any]) -> None:
    with pytest.raises(ManifestError):
        validate(values)
    answer = await api.create("pods", manifest(api.namespace, **values), dryRun="All")
    assert answer.status in (400, 422), answer.body
    assert re.search("unmarshal|[Ii]nvalid|[Uu]nsupported", answer.message)
