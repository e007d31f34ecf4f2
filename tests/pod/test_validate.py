"""What is refused when the DAG is parsed, and what must not be."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.pod.validate import validate
from kpo_async.secret import Secret


class LaterValue:
    """What an XComArg looks like: something to be resolved when the task runs."""

    def resolve(self, context: Any) -> Any:
        raise AssertionError("nothing is resolved when the DAG is parsed")

    def __repr__(self) -> str:
        return "LATER"


LATER = LaterValue()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"image_pull_policy": "", "dnspolicy": None},
        {"image_pull_policy": "{{ params.policy }}"},
        {"name": "Hello_World.1"},
        {"name": "not legal yet: {{ ds }}"},
        {"labels": {"team": None, "when": "{{ ds }}", "{{ key }}": "x y", "example.com/tier": "a.b_c-d"}},
        {"labels": LATER},
        {"labels": {"a": LATER}},
        {"annotations": {"Example.com/Anything": "goes: here, {} and ü"}},
        {"node_selector": {"kubernetes.io/os": "linux"}},
        {"cmds": ["sh", "-c", "echo {{ ds }}", LATER]},
        {"cmds": ("sh",)},
        {"image": "busybox:{{ params.version }}", "namespace": "jobs-1", "hostname": LATER, "subdomain": ""},
        {"cmds": "{{ params.cmds }}"},
        {"arguments": LATER},
        {"env_vars": {"A": "1", "{{ name }}": LATER, "my.var-1": None}},
        {"env_vars": [{"name": "A", "value": "{{ 1 }}"}, LATER, {"name": "B", "valueFrom": {"fieldRef": {}}}]},
        {"env_vars": LATER},
        {"ports": [{"containerPort": 80}]},
        {"affinity": {"nodeAffinity": {}}, "tolerations": [{"key": "a"}], "image_pull_secrets": "a,b"},
        {"secrets": [{"deploy_type": "env", "deploy_target": None, "secret": "s"}]},
        {"labels": {"try_number": "bad value!", "dag_id": 1, "kpo-async/managed": "-", "airflow_version": "3.3+x"}},
        {"volumes": LATER, "volume_mounts": [LATER], "container_resources": LATER},
        {"volumes": [{"name": "v", "persistent_volume_claim": {"claim_name": "{{ ds }}"}}, "{{ volume }}"]},
        {"pod_template_dict": {"spec": "{{ spec }}", "metadata": {"labels": LATER}}},
    ],
    ids=repr,
)
def test_possible_parameters_are_accepted(values: dict[str, Any]) -> None:
    validate(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_pull_policy": "always"}, "image_pull_policy is 'always'"),
        ({"name": "a b"}, "name 'a b'"),
        ({"namespace": "My_Space"}, "namespace is 'My_Space', which Kubernetes refuses: use at most 63"),
        ({"hostname": "a.b"}, "hostname is 'a.b'"),
        ({"image": "busybox\n"}, "remove the space around it"),
        ({"image": 5}, r"image is 5 \(int\)"),
        ({"labels": ["a"]}, "labels is a list, a dict is needed"),
        ({"labels": {"a": 1}}, r"labels\['a'\] is 1 \(int\), Kubernetes takes a string there: put it in quotes"),
        ({"labels": {"a": "x y"}}, r"labels\['a'\] is 'x y', which Kubernetes refuses"),
        ({"labels": {"a": "x" * 64}}, "at most 63"),
        ({"labels": {"a b": "x"}}, "labels has the key 'a b'"),
        ({"labels": {"Example.com/a": "x"}}, "labels has the key 'Example.com/a'"),
        ({"labels": {1: "x"}}, r"labels has the key 1 \(int\)"),
        ({"node_selector": {"a": "-"}}, "node_selector"),
        ({"node_selector": {"task_id": "-"}}, "node_selector"),
        ({"annotations": {"a": True}}, r"annotations\['a'\] is True"),
        ({"cmds": "echo"}, "cmds is a str, a list of strings is needed"),
        ({"arguments": ["a", 1]}, r"arguments\[1\] is 1 \(int\)"),
        ({"env_vars": "A=1"}, "env_vars is a str, a dict or a list is needed"),
        ({"env_vars": {"A=B": "x"}}, "'A=B' is not a name for an environment variable"),
        ({"env_vars": ["A"]}, r"env_vars\[0\] is a str"),
        ({"env_vars": [{"value": "x"}]}, r"env_vars\[0\]: None is not a name"),
        ({"ports": ["80"]}, r"ports\[0\] is a str"),
        ({"tolerations": {"key": "a"}}, "tolerations is a dict, a list is needed"),
        ({"affinity": "here"}, "affinity is a str"),
        ({"secrets": ["s"]}, "not a Secret"),
        ({"volumes": [{"name": "v", "nfs": {"paht": LATER}}]}, r"volumes\[0\].nfs.paht is not .*did you mean path"),
        ({"volume_mounts": [LATER, {"mountpath": "/"}]}, r"volume_mounts\[1\].mountpath .*did you mean mountPath"),
        ({"env_from": [{"secretref": {}}]}, r"env_from\[0\].secretref .*did you mean secretRef"),
        ({"env_vars": [{"name": "A", "valuefrom": {}}]}, r"env_vars\[0\].valuefrom .*did you mean valueFrom"),
        ({"container_resources": {"limit": {"cpu": LATER}}}, "container_resources.limit .*did you mean limits"),
        ({"security_context": {"runasuser": 0}}, "security_context.runasuser .*did you mean runAsUser"),
        ({"pod_template_dict": {"spec": {"container": []}}}, "pod_template_dict.spec.container .*mean containers"),
        ({"full_pod_spec": {"specs": {}}}, "full_pod_spec.specs .*did you mean spec"),
        ({"init_containers": [{"name": "i", "img": "x"}]}, r"init_containers\[0\].img .*did you mean image"),
        (
            {"secrets": [Secret("volume", "/s", "s", items=[{"key": "k", "pth": "p"}])]},
            r"secrets\[0\].items\[0\].pth .*did you mean path",
        ),
    ],
    ids=repr,
)
def test_impossible_parameters_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        validate(values)


@pytest.mark.parametrize("env_vars", [{"PIN": 4711}, [{"name": "PIN", "value": 4711}]])
def test_a_message_has_no_value_of_an_environment_variable(env_vars: Any) -> None:
    with pytest.raises(ManifestError, match="PIN") as caught:
        validate({"env_vars": env_vars})
    assert "4711" not in str(caught.value)
