"""From parameters to a manifest: precedence, order, identity. That it is the incumbent's is `test_parity.py`."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.pod import names, xcom_sidecar
from kpo_async.pod.build import ConnectionDefaults, PodParameters, TaskIdentity, build_pod
from kpo_async.secret import Secret

TASK = TaskIdentity("0190c6f2", "dag", "group.task", "run", 2, map_index=3)
TEMPLATE = {
    "metadata": {"name": "from-template", "namespace": "template", "labels": {"a": 1, "both": "template"}},
    "spec": {
        "containers": [
            {"name": "first", "image": "template:1", "command": ["template"], "env": [{"name": "T", "value": 1}]},
            {"name": "second", "image": "side:1"},
        ],
        "restartPolicy": "Always",
        "hostNetwork": True,
        "volumes": [{"name": "t", "emptyDir": {}}],
    },
}
FULL = {
    "metadata": {"namespace": "full", "labels": {"both": "full"}},
    "spec": {"containers": [{"name": "c", "image": "full:1"}], "hostname": "full"},
}


def unexpected(message: str) -> None:
    raise AssertionError(f"unexpected warning: {message}")


def parameters(**values: Any) -> PodParameters:
    return PodParameters.of({"task_id": "group.task", **values}, warn=unexpected)


def build(*, connection: ConnectionDefaults | None = None, **values: Any) -> Any:
    return build_pod(
        parameters(**values), task=TASK, connection=connection, in_cluster=False, airflow_version="3.3.2+local"
    )


def base(manifest: Any) -> Any:
    return manifest["spec"]["containers"][0]


def test_arguments_beat_the_full_spec_which_beats_the_template() -> None:
    pod = build(pod_template_dict=TEMPLATE, full_pod_spec=FULL, labels={"mine": "x"}, cmds=["mine"])
    assert base(pod)["command"] == ["mine"]
    assert base(pod)["image"] == "full:1"
    assert pod["spec"]["hostname"] == "full"
    assert pod["metadata"]["namespace"] == "full"
    assert {"a": "1", "both": "full", "mine": "x"}.items() <= pod["metadata"]["labels"].items()


def test_false_does_not_override_a_template() -> None:
    assert build(pod_template_dict=TEMPLATE, hostnetwork=False)["spec"]["hostNetwork"] is True


def test_the_base_container_is_the_first_one_renamed() -> None:
    pod = build(pod_template_dict=TEMPLATE, base_container_name="main")
    assert [container["name"] for container in pod["spec"]["containers"]] == ["main", "second"]


def test_a_pod_is_never_restarted_and_the_termination_message_policy_is_the_arguments() -> None:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"  # type: ignore[index]
    pod = build(pod_template_dict=template)
    assert pod["spec"]["restartPolicy"] == "Never"
    assert base(pod)["terminationMessagePolicy"] == "File"


def test_the_environment_is_template_then_arguments_then_runtime_info_then_secrets() -> None:
    pod = build(
        pod_template_dict=TEMPLATE,
        env_vars={"A": "1"},
        pod_runtime_info_envs=[{"name": "R"}],
        secrets=[Secret("env", "s", "sec", "key"), Secret("env", None, "all")],
        env_from=[{"secretRef": {"name": "f"}}],
        configmaps=["cm"],
    )
    assert [variable["name"] for variable in base(pod)["env"]] == ["T", "A", "R", "S"]
    assert base(pod)["envFrom"] == [
        {"secretRef": {"name": "f"}},
        {"configMapRef": {"name": "cm"}},
        {"secretRef": {"name": "all"}},
    ]


def test_a_secret_volume_is_mounted_read_only_and_its_name_never_changes() -> None:
    first, second = (build(secrets=[Secret("volume", "/etc/s", "sec")]) for _ in range(2))
    volume, mount = first["spec"]["volumes"][-1], base(first)["volumeMounts"][-1]
    assert volume == {"name": mount["name"], "secret": {"secretName": "sec"}}
    assert mount["mountPath"] == "/etc/s"
    assert mount["readOnly"] is True
    assert first == second


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"name": "Hello_Bob"}, "hello-bob-" + names.suffix(TASK)),
        ({"name": "Hello_Bob", "random_name_suffix": False}, "hello-bob"),
        ({}, "group-task-" + names.suffix(TASK)),
        ({"random_name_suffix": False}, "group-task"),
        ({"pod_template_dict": TEMPLATE}, "from-template-" + names.suffix(TASK)),
        ({"pod_template_dict": TEMPLATE, "name": "mine", "random_name_suffix": False}, "mine"),
    ],
)
def test_the_name_depends_on_the_parameters_and_the_try_alone(values: dict[str, Any], name: str) -> None:
    assert build(**values)["metadata"]["name"] == name


@pytest.mark.parametrize(
    ("values", "connection", "namespace"),
    [
        ({"namespace": "mine", "pod_template_dict": TEMPLATE}, "conn", "mine"),
        ({"pod_template_dict": TEMPLATE}, "conn", "template"),
        ({"namespace": ""}, "conn", "conn"),
        ({}, None, "default"),
    ],
)
def test_the_namespace_is_the_first_that_is_set(values: dict[str, Any], connection: str | None, namespace: str) -> None:
    pod = build(connection=ConnectionDefaults(namespace=connection), **values)
    assert pod["metadata"]["namespace"] == namespace


def test_the_tasks_labels_beat_the_users_and_the_annotation_names_the_owner() -> None:
    metadata = build(labels={"dag_id": "mine", "none": None})["metadata"]
    assert metadata["labels"] == {
        **names.task_labels(TASK),
        "none": "",
        "airflow_version": "3.3.2-local",
        "airflow_kpo_in_cluster": "False",
        "kpo-async/managed": "true",
    }
    assert metadata["annotations"] == {"kpo-async/owner": "0190c6f2/2"}


def test_every_label_that_is_overwritten_replaces_the_users_value() -> None:
    given = dict.fromkeys(names.OVERWRITTEN_LABELS, "bad value!")
    pod = build_pod(parameters(labels=given), task=TASK, in_cluster=False, airflow_version="3.3+x")
    assert "bad value!" not in pod["metadata"]["labels"].values()
    assert set(pod["metadata"]["labels"]) >= set(given)


def test_without_a_task_the_pod_has_no_owner() -> None:
    metadata = build_pod(parameters(name="dry"), airflow_version="3.3.2")["metadata"]
    assert metadata["labels"] == {"airflow_version": "3.3.2"}
    assert metadata["annotations"] == {}
    assert names.is_pod_name(metadata["name"])
    assert metadata["name"].startswith("dry-")


def test_a_dry_run_that_was_not_rendered_still_shows_a_pod() -> None:
    assert build_pod(parameters(name="Day {{ ds }}"))["metadata"]["name"].startswith("day-ds-")


def test_the_sidecar_is_attached_to_the_base_container_with_the_connections_settings() -> None:
    connection = ConnectionDefaults(
        xcom_sidecar_image="img",
        xcom_sidecar_resources={"limits": {"cpu": "2"}},
        xcom_sidecar_security_context={"runAsUser": 1},
    )
    spec = build(do_xcom_push=True, connection=connection, base_container_name="main")["spec"]
    (sidecar,) = spec["initContainers"]
    assert sidecar["name"] == xcom_sidecar.CONTAINER
    assert (sidecar["image"], sidecar["resources"], sidecar["securityContext"]) == (
        "img",
        {"limits": {"cpu": "2"}},
        {"runAsUser": 1},
    )
    assert [mount["name"] for mount in spec["containers"][0]["volumeMounts"]] == [xcom_sidecar.VOLUME]


def test_the_parameters_security_context_of_the_sidecar_beats_the_connections() -> None:
    connection = ConnectionDefaults(xcom_sidecar_security_context={"runAsUser": 1})
    spec = build(do_xcom_push=True, connection=connection, xcom_sidecar_container_security_context={"runAsUser": 2})[
        "spec"
    ]
    assert spec["initContainers"][0]["securityContext"] == {"runAsUser": 2}


def test_the_classic_sidecar_is_an_option() -> None:
    spec = build(do_xcom_push=True, xcom_transport="exec")["spec"]
    assert [container["name"] for container in spec["containers"]] == ["base", xcom_sidecar.CONTAINER]


def test_changing_the_manifest_does_not_change_the_parameters() -> None:
    values = parameters(pod_template_dict=TEMPLATE, env_vars={"A": "1"}, volumes=[{"name": "v", "emptyDir": {}}])
    before = copy.deepcopy(values)
    pod = build_pod(values, task=TASK)
    base(pod)["env"].clear()
    pod["spec"]["volumes"][0]["emptyDir"]["medium"] = "Memory"
    pod["metadata"]["labels"].clear()
    assert values == before


def test_a_manifest_is_made_of_plain_dicts() -> None:
    client = pytest.importorskip("kubernetes.client")
    pod = build(affinity=client.V1Affinity(), full_pod_spec=client.V1Pod(spec=client.V1PodSpec(containers=[])))
    assert pod["spec"]["affinity"] == {}
    assert type(pod["spec"]["affinity"]) is dict


def test_parameters_are_plain_values() -> None:
    values = asdict(
        parameters(pod_template_dict=TEMPLATE, secrets=[Secret("env", "A", "s", "k")], env_vars={"A": "1"}, name="n")
    )
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a b"}, "name 'a b'"),
        ({"volumes": {"name": "v"}}, "volumes is a dict, a list is needed"),
        ({"volumes": ["v"]}, r"volumes\[0\] is a str, a dict or a model is needed"),
        (
            {"env_vars": "A=1"},
            "env_vars is a str, a list is needed; if a template makes it, use `task.output` or render",
        ),
        ({"labels": ["a"]}, "labels is a list, a dict or a model is needed"),
        ({"security_context": object()}, "security_context: a builtins.object cannot be in a pod"),
        ({"secrets": ["s"]}, "secrets: a str is not a Secret"),
        ({"pod_template_dict": {"spec": {}}}, "pod_template_dict.spec.containers is missing"),
    ],
)
def test_impossible_values_are_refused_with_the_parameters_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        build(**values)


def test_a_template_file_is_read_and_coerced_and_beats_a_template_dict(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("metadata: {labels: {day: 2026-01-02, n: 1}}\nspec: {containers: [{name: x, image: 'file:1'}]}\n")
    pod = build(pod_template_file=str(file), pod_template_dict=TEMPLATE)
    assert base(pod)["image"] == "file:1"
    assert (pod["metadata"]["labels"]["day"], pod["metadata"]["labels"]["n"]) == ("2026-01-02", "1")


def test_jinja_in_a_template_file_is_not_rendered(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("metadata: {annotations: {when: '{{ ds }}'}}\n")
    assert build(pod_template_file=str(file))["metadata"]["annotations"]["when"] == "{{ ds }}"


def test_a_missing_template_file_gives_a_warning_and_a_pod_without_it(tmp_path: Path) -> None:
    warnings: list[str] = []
    path = tmp_path / "missing.yaml"
    values = PodParameters.of({"task_id": "t", "pod_template_file": str(path), "image": "i"}, warn=warnings.append)
    assert base(build_pod(values))["image"] == "i"
    assert warnings == [f"pod_template_file {path} does not exist on this machine, the pod is built without it"]


@pytest.mark.parametrize("content", [b"a: [", b"a: 1\n---\nb: 2\n", b"\xff\xfe\x00", b"- a\n", b"just text"], ids=repr)
def test_a_template_file_that_is_not_a_single_mapping_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_bytes(content)
    with pytest.raises(ManifestError, match="pod_template_file"):
        build(pod_template_file=str(file))


def test_snake_case_is_understood_in_every_parameter_that_takes_objects(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("spec: {containers: [{name: x, image_pull_policy: Always}], host_network: true}")
    built = build(
        pod_template_file=str(file),
        full_pod_spec={"spec": {"containers": [{"name": "x", "tty": True}], "dns_config": {"nameservers": ["1.1"]}}},
        volumes=[{"name": "v", "persistent_volume_claim": {"claim_name": "data"}}],
        volume_mounts=[{"name": "v", "mount_path": "/data", "sub_path": None}],
        security_context={"run_as_user": 1000, "fs_group": None},
        container_security_context={"run_as_non_root": True},
        tolerations=[{"key": "a", "toleration_seconds": 5}],
        affinity={"pod_affinity": {"required_during_scheduling_ignored_during_execution": [{"topology_key": "t"}]}},
        env_vars=[{"name": "A", "value_from": {"secret_key_ref": {"name": "s", "key": "k"}}}],
        env_from=[{"secret_ref": {"name": "s"}}],
        ports=[{"container_port": 80}],
        init_containers=[{"name": "i", "volume_mounts": [{"name": "v", "mount_path": "/data"}]}],
    )
    spec, container = built["spec"], base(built)
    assert container["imagePullPolicy"] == "Always"
    assert (container["tty"], container["ports"]) == (True, [{"containerPort": 80}])
    assert container["volumeMounts"] == [{"name": "v", "mountPath": "/data"}]
    assert container["securityContext"] == {"runAsNonRoot": True}
    assert container["env"] == [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    assert container["envFrom"] == [{"secretRef": {"name": "s"}}]
    assert (spec["hostNetwork"], spec["dnsConfig"]) == (True, {"nameservers": ["1.1"]})
    assert spec["volumes"] == [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    assert spec["securityContext"] == {"runAsUser": 1000}
    assert spec["tolerations"] == [{"key": "a", "tolerationSeconds": 5}]
    required = spec["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required == [{"topologyKey": "t"}]
    assert spec["initContainers"] == [{"name": "i", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}]


def test_a_misspelt_field_of_a_template_file_is_refused_with_the_files_parameter(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("spec: {containers: [], hostNetworking: true}")
    with pytest.raises(ManifestError, match=r"^pod_template_file\.spec\.hostNetworking .* did you mean hostNetwork\?"):
        build(pod_template_file=str(file))


def test_a_misspelt_setting_of_the_connections_sidecar_is_refused() -> None:
    connection = ConnectionDefaults(xcom_sidecar_resources={"limit": {"cpu": "1"}})
    with pytest.raises(ManifestError, match=r"xcom_sidecar_container_resources\.limit is not a field"):
        build_pod(parameters(do_xcom_push=True), connection=connection)


@pytest.mark.parametrize("pull_secrets", ["a,b", "a, b"])
def test_pull_secrets_may_be_one_string(pull_secrets: str) -> None:
    assert build(image_pull_secrets=pull_secrets)["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}]


def test_numbers_from_native_templates_become_text_where_text_is_needed() -> None:
    pair = {"day": 20261121, "name": "a"}
    values = {
        "env_vars": [{"name": "A", "value": 1}, {"name": "B"}],
        "cmds": ["sleep"],
        "arguments": [1.5, "x"],
        **dict.fromkeys(("labels", "annotations", "node_selector"), pair),
    }
    built = build_pod(PodParameters.of({"task_id": "t", **values}, warn=print))
    container, text = built["spec"]["containers"][0], {"day": "20261121", "name": "a"}
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B"}]
    assert (container["command"], container["args"]) == (["sleep"], ["1.5", "x"])
    assert (built["metadata"]["annotations"], built["spec"]["nodeSelector"]) == (text, text)
    assert built["metadata"]["labels"].items() >= text.items()


@pytest.mark.parametrize("where", ["pod_template_dict", "full_pod_spec"])
def test_the_container_of_the_base_containers_name_is_the_base_wherever_a_template_has_it(where: str) -> None:
    containers = [{"name": "first", "image": "a:1"}, {"name": "main", "image": "b:1"}, {"name": "last", "image": "c:1"}]
    pod = build(**{where: {"spec": {"containers": containers}}}, base_container_name="main", cmds=["work"])
    assert [container["name"] for container in pod["spec"]["containers"]] == ["main", "first", "last"]
    assert (base(pod)["image"], base(pod)["command"]) == ("b:1", ["work"])
