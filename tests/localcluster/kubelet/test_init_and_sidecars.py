"""Init containers in order, native sidecars, and termination messages."""

from __future__ import annotations

import json

import pytest

from kpo_async.localcluster.store.objects import Object
from tests.localcluster.kubelet.kubelet_harness import (
    KubeletHarness,
    condition,
    container,
    container_status,
    terminated,
)

SHARED = {"volumes": [{"name": "shared", "emptyDir": {}}]}
MOUNT = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
HANDS_OVER = "trap 'printf done > /dev/termination-log; exit 0' TERM; while true; do sleep 1 & wait $!; done"


def sidecar(script: str, name: str = "side", **more: object) -> dict[str, object]:
    return container(script, name, restartPolicy="Always", **more)


async def test_init_containers_run_one_after_the_other_before_the_main_ones(any_node: KubeletHarness) -> None:
    first = container("echo 1 >> /shared/order", "first", **MOUNT)
    second = container("echo 2 >> /shared/order", "second", **MOUNT)
    any_node.create("pod", container("cat /shared/order", **MOUNT), initContainers=[first, second], **SHARED)
    assert await any_node.output("pod") == "1\n2\n"


async def test_main_containers_wait_for_the_init_containers(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"), initContainers=[container("sleep 0.2", "init")])
    pod = await node.until("pod", lambda pod: "initContainerStatuses" in pod["status"])
    assert container_status(pod)["state"] == {"waiting": {"reason": "PodInitializing"}}
    message = "containers with incomplete status: [init]"
    assert condition(pod, "Initialized") == {
        "status": "False",
        "reason": "ContainersNotInitialized",
        "message": message,
    }
    pod = await node.finished("pod")
    assert container_status(pod, "init")["ready"] is True
    assert condition(pod, "Initialized") == {"status": "True", "reason": "PodCompleted"}


async def test_a_failed_init_container_fails_the_pod_and_no_other_starts(node: KubeletHarness) -> None:
    init = [container("exit 4", "one"), container("exit 0", "two")]
    node.create("pod", container("exit 0"), initContainers=init)
    pod = await node.finished("pod")
    assert pod["status"]["phase"] == "Failed"
    assert terminated(pod, "one")["exitCode"] == 4
    for name in ("two", "base"):
        assert container_status(pod, name)["state"] == {"waiting": {"reason": "PodInitializing"}}


async def test_a_failed_init_container_is_restarted_if_the_policy_allows_it(node: KubeletHarness) -> None:
    init = container("echo x >> /shared/x; test $(wc -l < /shared/x) -eq 3", "init", **MOUNT)
    node.create("pod", container("exit 0"), initContainers=[init], restartPolicy="OnFailure", **SHARED)
    pod = await node.finished("pod")
    assert (pod["status"]["phase"], container_status(pod, "init")["restartCount"]) == ("Succeeded", 2)


async def test_a_sidecar_outlives_the_main_containers_and_leaves_a_message(any_node: KubeletHarness) -> None:
    base = container("until test -e /shared/up; do sleep 0.01; done; exit 5", **MOUNT)
    side = sidecar(f"touch /shared/up; {HANDS_OVER}", **MOUNT)
    any_node.create("pod", base, initContainers=[side], **SHARED)
    pod = await any_node.finished("pod")
    assert pod["status"]["phase"] == "Failed"
    end = terminated(pod, "side")
    assert (end["exitCode"], end["reason"], end["message"]) == (0, "Completed", "done")


async def test_the_phase_is_running_while_a_sidecar_is_stopping(node: KubeletHarness) -> None:
    slow = "trap 'sleep 0.2; exit 3' TERM; echo up; while true; do sleep 1 & wait $!; done"
    node.create("pod", container("sleep 0.2"), initContainers=[sidecar(slow)])

    def base_ended(pod: Object) -> bool:
        return "terminated" in (pod["status"].get("containerStatuses") or [{"state": {}}])[0]["state"]

    pod = await node.until("pod", base_ended)
    assert pod["status"]["phase"] == "Running"
    assert "running" in container_status(pod, "side")["state"]
    message = "containers with unready status: [base]"
    assert condition(pod, "Ready") == {"status": "False", "reason": "ContainersNotReady", "message": message}
    pod = await node.finished("pod")
    assert pod["status"]["phase"] == "Succeeded"  # A sidecar's exit code does not count.
    assert terminated(pod, "side")["exitCode"] == 3


async def test_sidecars_stop_in_reverse_order(node: KubeletHarness) -> None:
    def side(name: str) -> dict[str, object]:
        script = f"trap 'sleep 0.1; echo {name} >> /shared/order; exit' TERM; while true; do sleep 1 & wait $!; done"
        return sidecar(script, name, **MOUNT)

    reader = container("true", "reader", **MOUNT)
    volume = {"volumes": [{"name": "shared", "hostPath": {"path": str(node.directory / "order"), "type": "Directory"}}]}
    (node.directory / "order").mkdir(parents=True)
    node.create("pod", reader, initContainers=[side("first"), side("second")], **volume)
    await node.finished("pod")
    assert (node.directory / "order" / "order").read_text() == "second\nfirst\n"


async def test_a_sidecar_that_exits_is_restarted(node: KubeletHarness) -> None:
    side = sidecar("echo up >> /shared/ups; exit 1", **MOUNT)
    base = container("until test $(wc -l < /shared/ups) -ge 3; do sleep 0.01; done", **MOUNT)
    node.create("pod", base, initContainers=[side], **SHARED)
    pod = await node.finished("pod")
    assert pod["status"]["phase"] == "Succeeded"
    assert container_status(pod, "side")["restartCount"] >= 2


async def test_a_startup_probe_delays_the_containers_after_the_sidecar(node: KubeletHarness) -> None:
    probe = {"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 0.02, "failureThreshold": 500}
    side = sidecar(f"sleep 0.2; touch /shared/ready; {HANDS_OVER}", startupProbe=probe, **MOUNT)
    node.create("pod", container("test -e /shared/ready", **MOUNT), initContainers=[side], **SHARED)
    assert (await node.finished("pod"))["status"]["phase"] == "Succeeded"


async def test_a_termination_message_may_be_any_path(any_node: KubeletHarness) -> None:
    path = "/airflow/xcom/return.json"
    value = json.dumps({"rows": 3})
    any_node.create("pod", container(f"echo '{value}' > {path}", terminationMessagePath=path))
    assert json.loads(terminated(await any_node.finished("pod"))["message"]) == {"rows": 3}


async def test_a_termination_message_keeps_its_last_4096_bytes(node: KubeletHarness) -> None:
    node.create("pod", container('python3 -c \'print("a" * 5000 + "b" * 4096, end="")\' > /dev/termination-log'))
    assert terminated(await node.finished("pod"))["message"] == "b" * 4096


async def test_termination_messages_of_all_containers_share_12_kib(node: KubeletHarness) -> None:
    script = 'python3 -c \'print("x" * 4096, end="")\' > /dev/termination-log'
    names = [f"c{number}" for number in range(4)]
    node.create("pod", *(container(script, name) for name in names))
    pod = await node.finished("pod")
    assert [len(terminated(pod, name)["message"]) for name in names] == [3072] * 4


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param("echo one; echo two; exit 1", "one\ntwo\n", id="the log of a failure"),
        pytest.param("echo one; exit 0", None, id="nothing of a success"),
        pytest.param("echo log; printf said > /dev/termination-log; exit 1", "said", id="its own message"),
        pytest.param("seq 1000; exit 1", "".join(f"{n}\n" for n in range(921, 1001)), id="80 lines"),
        pytest.param("python3 -c 'print(\"y\" * 9000)'; exit 1", "y" * 2047 + "\n", id="2048 bytes"),
    ],
)
async def test_the_log_can_replace_a_termination_message(
    node: KubeletHarness, script: str, message: str | None
) -> None:
    node.create("pod", container(script, terminationMessagePolicy="FallbackToLogsOnError"))
    assert terminated(await node.finished("pod")).get("message") == message
