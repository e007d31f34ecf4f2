"""Pods without processes."""

from __future__ import annotations

import pytest

from kpo_async.localcluster.kubelet.simulated import seconds
from kpo_async.localcluster.node import BadLogRequest
from tests.localcluster.kubelet.kubelet_harness import Lab, container, container_status, terminated


@pytest.mark.parametrize(
    ("text", "expected"), [("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), ("1h0m1s", 3601.0)]
)
def test_durations_are_gos(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "1x", "-1s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


async def test_it_runs_for_its_time_and_exits_with_its_code(lab: Lab) -> None:
    lab.create("pod", container(), annotations={"sim/run-for": "50ms", "sim/exit-code": "3"})
    running = await lab.running("pod")
    assert running["status"]["phase"] == "Running"
    pod = await lab.finished("pod")
    assert pod["status"]["phase"] == "Failed"
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (3, "Error")
    assert container_status(pod)["containerID"] == "sim://base"


async def test_the_reason_of_its_end_can_be_given(lab: Lab) -> None:
    annotations = {"sim/run-for": "1ms", "sim/exit-code": "137", "sim/reason": "OOMKilled"}
    lab.create("pod", container(), annotations=annotations)
    end = terminated(await lab.finished("pod"))
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


async def test_it_starts_after_its_delay(lab: Lab) -> None:
    lab.create("pod", container(), annotations={"sim/start-after": "50ms", "sim/run-for": "10ms"})
    phases = []
    async for pod in lab.states("pod"):
        phases.append(pod["status"]["phase"])
        if phases[-1] == "Succeeded":
            break
    assert phases == ["Pending", "Pending", "Running", "Succeeded"]


async def test_a_kwok_node_selector_simulates_a_pod_that_runs_for_ever(lab: Lab) -> None:
    lab.create("pod", container(), nodeSelector={"type": "kwok"})
    await lab.running("pod")
    lab.delete("pod", 30)
    assert terminated(await lab.removed("pod"))["exitCode"] == 143


async def test_messages_of_the_base_container_and_the_sidecar_are_annotations(lab: Lab) -> None:
    side = container(name="side", restartPolicy="Always")
    init = container(name="init")
    annotations = {"sim/run-for": "1ms", "sim/termination-message": "m", "sim/sidecar-message": '{"a": 1}'}
    lab.create("pod", container(), initContainers=[init, side], annotations=annotations)
    pod = await lab.finished("pod")
    assert terminated(pod)["message"] == "m"
    assert (terminated(pod, "side")["message"], terminated(pod, "side")["exitCode"]) == ('{"a": 1}', 0)
    assert terminated(pod, "init")["exitCode"] == 0


async def test_its_log_has_fixed_lines(lab: Lab) -> None:
    lab.create("pod", container(), annotations={"sim/run-for": "50ms", "sim/log-lines": "3"})
    await lab.running("pod")
    assert await lab.log("pod", follow=True) == "line 1 of 3\nline 2 of 3\nline 3 of 3\n"
    assert await lab.log("pod", tail_lines=1) == "line 3 of 3\n"
    stamps = [line.split(" ")[0] for line in (await lab.log("pod", timestamps=True)).splitlines()]
    assert stamps == sorted(set(stamps))


async def test_a_pod_that_has_not_started_has_no_log(lab: Lab) -> None:
    lab.create("pod", container(), annotations={"sim/start-after": "1h"})
    await lab.waiting("pod", "ContainerCreating")
    with pytest.raises(BadLogRequest, match="waiting to start: ContainerCreating"):
        await lab.log("pod")


async def test_two_thousand_live_at_once_without_a_process(lab: Lab) -> None:
    before = lab.processes()
    for number in range(2000):
        lab.create(f"pod-{number}", container(), annotations={"sim/run-for": "200ms"})
    for number in range(2000):
        await lab.finished(f"pod-{number}")
    assert lab.processes() == before


async def test_annotations_that_mean_nothing_fail_the_pod_and_say_so(lab: Lab) -> None:
    lab.create("pod", container(), annotations={"sim/run-for": "soon"})
    status = (await lab.finished("pod"))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "InvalidSimulation")
    assert status["message"] == "not a duration: 'soon'"
