"""Simulated pods."""

from __future__ import annotations

import pytest

from kpo_async.localcluster.kubelet.simulated import seconds
from kpo_async.localcluster.node import BadLogRequest
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, container, container_status, terminated


@pytest.mark.parametrize(
    ("text", "expected"), [("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), ("1h0m1s", 3601.0)]
)
def test_durations_have_the_syntax_of_go(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1x", "-1s"])
def test_an_invalid_duration_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


async def test_a_simulated_pod_runs_for_its_time_and_exits_with_its_code(node: KubeletHarness) -> None:
    node.create("pod", container(), annotations={"sim/run-for": "50ms", "sim/exit-code": "3"})
    running = await node.running("pod")
    assert running["status"]["phase"] == "Running"
    pod = await node.finished("pod")
    assert pod["status"]["phase"] == "Failed"
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (3, "Error")
    assert container_status(pod)["containerID"] == "sim://base"


async def test_an_annotation_sets_the_reason_of_its_end(node: KubeletHarness) -> None:
    annotations = {"sim/run-for": "1ms", "sim/exit-code": "137", "sim/reason": "OOMKilled"}
    node.create("pod", container(), annotations=annotations)
    end = terminated(await node.finished("pod"))
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


async def test_a_simulated_pod_starts_after_its_delay(node: KubeletHarness) -> None:
    node.create("pod", container(), annotations={"sim/start-after": "50ms", "sim/run-for": "10ms"})
    phases = []
    async for pod in node.states("pod"):
        phases.append(pod["status"]["phase"])
        if phases[-1] == "Succeeded":
            break
    assert phases == ["Pending", "Pending", "Running", "Succeeded"]


async def test_a_pod_with_a_kwok_node_selector_runs_until_it_is_deleted(node: KubeletHarness) -> None:
    node.create("pod", container(), nodeSelector={"type": "kwok"})
    await node.running("pod")
    node.delete("pod", 30)
    assert terminated(await node.removed("pod"))["exitCode"] == 143


async def test_annotations_set_the_messages_of_the_base_container_and_the_sidecar(node: KubeletHarness) -> None:
    side = container(name="side", restartPolicy="Always")
    init = container(name="init")
    annotations = {"sim/run-for": "1ms", "sim/termination-message": "m", "sim/sidecar-message": '{"a": 1}'}
    node.create("pod", container(), initContainers=[init, side], annotations=annotations)
    pod = await node.finished("pod")
    assert terminated(pod)["message"] == "m"
    assert (terminated(pod, "side")["message"], terminated(pod, "side")["exitCode"]) == ('{"a": 1}', 0)
    assert terminated(pod, "init")["exitCode"] == 0


async def test_the_log_of_a_simulated_pod_has_fixed_lines(node: KubeletHarness) -> None:
    node.create("pod", container(), annotations={"sim/run-for": "50ms", "sim/log-lines": "3"})
    await node.running("pod")
    assert await node.log("pod", follow=True) == "line 1 of 3\nline 2 of 3\nline 3 of 3\n"
    assert await node.log("pod", tail_lines=1) == "line 3 of 3\n"
    stamps = [line.split(" ")[0] for line in (await node.log("pod", timestamps=True)).splitlines()]
    assert stamps == sorted(set(stamps))


async def test_a_pod_that_has_not_started_has_no_log(node: KubeletHarness) -> None:
    node.create("pod", container(), annotations={"sim/start-after": "1h"})
    await node.waiting("pod", "ContainerCreating")
    with pytest.raises(BadLogRequest, match="waiting to start: ContainerCreating"):
        await node.log("pod")


async def test_two_thousand_simulated_pods_run_without_a_process(node: KubeletHarness) -> None:
    before = node.processes()
    for number in range(2000):
        node.create(f"pod-{number}", container(), annotations={"sim/run-for": "200ms"})
    for number in range(2000):
        await node.finished(f"pod-{number}")
    assert node.processes() == before


async def test_invalid_annotations_fail_the_pod_with_a_message(node: KubeletHarness) -> None:
    node.create("pod", container(), annotations={"sim/run-for": "soon"})
    status = (await node.finished("pod"))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidSimulation")
    assert status["message"] == "not a duration: 'soon'"
