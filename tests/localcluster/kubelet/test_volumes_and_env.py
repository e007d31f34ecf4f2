"""Volumes and environment variables from every source."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from kpo_async.localcluster.runtime.runtime import Isolation
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, container, terminated


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def mounted(script: str, path: str = "/data", **more: Any) -> dict[str, Any]:
    return container(script, volumeMounts=[{"name": "v", "mountPath": path, **more}])


def fill(node: KubeletHarness) -> None:
    node.put("configmaps", "settings", data={"a": "alpha", "b": "beta"}, binaryData={"raw": encoded("bytes")})
    node.put("secrets", "keys", data={"user": encoded("me"), "pass": encoded("s3cret")})


@pytest.mark.parametrize(
    ("volume", "script", "expected"),
    [
        pytest.param({"emptyDir": {}}, "echo x > /data/f; cat /data/f", "x\n", id="emptyDir"),
        pytest.param({"configMap": {"name": "settings"}}, "cat /data/a /data/raw", "alphabytes", id="configMap"),
        pytest.param({"secret": {"secretName": "keys"}}, "cat /data/user", "me", id="secret"),
        pytest.param(
            {"configMap": {"name": "settings", "items": [{"key": "a", "path": "sub/x"}]}},
            "cat /data/sub/x; ls /data",
            "alphasub\n",
            id="items",
        ),
        pytest.param(
            {"secret": {"secretName": "keys", "defaultMode": 0o400}}, "stat -c %a /data/user", "400\n", id="mode"
        ),
        pytest.param({"configMap": {"name": "no", "optional": True}}, "ls /data", "", id="optional"),
        pytest.param(
            {
                "projected": {
                    "sources": [
                        {"configMap": {"name": "settings", "items": [{"key": "b", "path": "b"}]}},
                        {"secret": {"name": "keys"}},
                        {"downwardAPI": {"items": [{"path": "me", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    ]
                }
            },
            "cat /data/b /data/user /data/me",
            "betamepod",
            id="projected",
        ),
        pytest.param(
            {"downwardAPI": {"items": [{"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
            "cat /data/notes",
            'say="a \\"b\\""',
            id="downwardAPI",
        ),
        pytest.param({"persistentVolumeClaim": {"claimName": "c"}}, "echo x > /data/f; cat /data/f", "x\n", id="claim"),
    ],
)
async def test_a_volume_is_at_its_mount_path(
    any_node: KubeletHarness, volume: dict[str, Any], script: str, expected: str
) -> None:
    fill(any_node)
    any_node.create("pod", mounted(script), volumes=[{"name": "v", **volume}], annotations={"say": 'a "b"'})
    assert await any_node.output("pod") == expected


async def test_a_host_path_is_the_hosts_directory(any_node: KubeletHarness, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host")
    volume = {"name": "v", "hostPath": {"path": str(tmp_path)}}
    any_node.create("pod", mounted("cat /data/given; echo back > /data/made"), volumes=[volume])
    assert await any_node.output("pod") == "from the host"
    assert (tmp_path / "made").read_text() == "back\n"


async def test_a_sub_path_mounts_a_part_of_a_volume(any_node: KubeletHarness) -> None:
    fill(any_node)
    volume = {"name": "v", "configMap": {"name": "settings"}}
    any_node.create("pod", mounted("cat /etc/app/a.txt", "/etc/app/a.txt", subPath="a"), volumes=[volume])
    assert await any_node.output("pod") == "alpha"


async def test_a_claim_outlives_its_pod(node: KubeletHarness) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    node.create("writer", mounted("echo kept > /data/f"), volumes=volumes)
    await node.finished("writer")
    node.create("reader", mounted("cat /data/f"), volumes=volumes)
    assert await node.output("reader") == "kept\n"


async def test_a_read_only_mount_cannot_be_written(node: KubeletHarness) -> None:
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("needs mount namespaces")
    node.create("pod", mounted("touch /data/f || echo refused", readOnly=True), volumes=[{"name": "v", "emptyDir": {}}])
    assert "refused" in await node.output("pod")


async def test_a_container_leaves_no_trace_on_the_host(node: KubeletHarness) -> None:
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("needs mount namespaces")
    name = f"kpo-trace-{node.mark}"
    script = f"mkdir -p /airflow/{name}; for d in / /tmp /etc /usr/share /opt /var /root; do touch $d/{name}; done"
    node.create("pod", mounted(script, f"/opt/{name}.d/x/y"), volumes=[{"name": "v", "emptyDir": {}}])
    assert (await node.finished("pod"))["status"]["phase"] == "Succeeded"
    directories = ("/", "/airflow", "/tmp", "/etc", "/usr/share", "/opt", "/var", "/root")
    assert traces([*(f"{directory}/{name}" for directory in directories), f"/opt/{name}.d"]) == []


def traces(paths: list[str]) -> list[str]:
    return [path for path in paths if Path(path).exists()]


async def test_tmp_belongs_to_the_pod(node: KubeletHarness) -> None:
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("needs mount namespaces")
    node.create("one", container("ls /tmp; touch /tmp/mine"), initContainers=[container("touch /tmp/before", "init")])
    assert await node.output("one") == "before\n"
    node.create("two", container("ls /tmp"))
    assert await node.output("two") == ""


async def test_a_pod_waits_for_a_missing_volume(node: KubeletHarness) -> None:
    node.create("pod", mounted("cat /data/a"), volumes=[{"name": "v", "configMap": {"name": "settings"}}])
    await node.waiting("pod", "ContainerCreating")
    subscription = node.store.watch("events", 0)
    async for change in subscription:
        if change.object["reason"] == "FailedMount":
            break
    subscription.close()
    message = 'MountVolume.SetUp failed for volume "v" : configmap "settings" not found'
    assert node.events("pod") == [("FailedMount", message)]
    fill(node)
    assert await node.output("pod") == "alpha"


async def test_a_pod_does_not_wait_for_a_volume_that_no_container_mounts(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"), volumes=[{"name": "v", "secret": {"secretName": "none"}}])
    await node.finished("pod")


def from_field(path: str) -> dict[str, Any]:
    return {"fieldRef": {"fieldPath": path}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(from_field("metadata.name"), "pod", id="name"),
        pytest.param(from_field("metadata.namespace"), "ns", id="namespace"),
        pytest.param(from_field("metadata.annotations['key']"), "value", id="annotation"),
        pytest.param(from_field("spec.nodeName"), "local-1", id="node"),
        pytest.param(from_field("status.podIP"), "127.0.0.1", id="podIP"),
        pytest.param(from_field("status.hostIP"), "127.0.0.1", id="hostIP"),
        pytest.param({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}, "64", id="memory"),
        pytest.param({"resourceFieldRef": {"resource": "requests.cpu"}}, "1", id="cpu, rounded up"),
        pytest.param({"configMapKeyRef": {"name": "settings", "key": "a"}}, "alpha", id="configMap"),
        pytest.param({"secretKeyRef": {"name": "keys", "key": "pass"}}, "s3cret", id="secret"),
        pytest.param({"secretKeyRef": {"name": "keys", "key": "no", "optional": True}}, "unset", id="optional key"),
        pytest.param({"configMapKeyRef": {"name": "no", "key": "a", "optional": True}}, "unset", id="optional map"),
    ],
)
async def test_a_variable_has_the_value_of_its_source(
    node: KubeletHarness, source: dict[str, Any], expected: str
) -> None:
    fill(node)
    resources = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}}
    env = [{"name": "A", "valueFrom": source}]
    body = container("echo ${A-unset}", env=env, resources=resources)
    node.create("pod", body, annotations={"key": "value"})
    assert await node.output("pod") == f"{expected}\n"


async def test_whole_maps_and_secrets_become_variables_with_a_prefix(node: KubeletHarness) -> None:
    fill(node)
    sources = [
        {"prefix": "C_", "configMapRef": {"name": "settings"}},
        {"secretRef": {"name": "keys"}},
        {"secretRef": {"name": "none", "optional": True}},
    ]
    node.create("pod", container("echo $C_a $user $own", envFrom=sources, env=[{"name": "own", "value": "$(C_b)!"}]))
    assert await node.output("pod") == "alpha me beta!\n"


async def test_a_container_does_not_see_the_hosts_environment(
    node: KubeletHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    node.create("pod", container("env | cut -d= -f1 | sort"))
    names = (await node.output("pod")).split()
    allowed = {"HOME", "HOSTNAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "PATH", "PWD", "SHLVL", "_"}
    assert set(names) <= allowed | {"OLDPWD", "TMPDIR"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "a"}}}]},
            'configmap "no" not found',
            id="no map",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "z"}}}]},
            "couldn't find key z in ConfigMap ns/settings",
            id="no key of a map",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "z"}}}]},
            "couldn't find key z in Secret ns/keys",
            id="no key of a secret",
        ),
        pytest.param({"envFrom": [{"secretRef": {"name": "no"}}]}, 'secret "no" not found', id="no secret"),
    ],
)
async def test_a_missing_source_is_a_config_error(node: KubeletHarness, part: dict[str, Any], message: str) -> None:
    fill(node)
    node.create("pod", container("exit 0", **part))
    assert await node.waiting("pod", "CreateContainerConfigError") == {
        "reason": "CreateContainerConfigError",
        "message": message,
    }
    assert ("Failed", f"Error: {message}") in node.events("pod")


async def test_a_container_is_created_once_its_missing_source_appears(node: KubeletHarness) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]
    node.create("pod", container("echo $A", env=env))
    await node.waiting("pod", "CreateContainerConfigError")
    fill(node)
    assert await node.output("pod") == "alpha\n"
    assert terminated(node.pod("pod"))["exitCode"] == 0
