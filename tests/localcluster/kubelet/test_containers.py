"""Main containers: what they run, how they end, and their status."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.localcluster.runtime.runtime import Isolation
from kpo_async.localcluster.store.objects import Object
from tests.localcluster.kubelet.kubelet_harness import (
    KubeletHarness,
    condition,
    container,
    container_status,
    terminated,
)


async def test_a_pod_that_exits_with_0_succeeds(any_node: KubeletHarness) -> None:
    any_node.create("ok", container("echo hello"))
    pod = await any_node.finished("ok")
    assert pod["status"]["phase"] == "Succeeded"
    end = terminated(pod)
    assert (end["exitCode"], end["reason"]) == (0, "Completed")
    assert await any_node.log("ok") == "hello\n"


async def test_the_status_shows_the_last_containers_end_before_the_pods(node: KubeletHarness) -> None:
    node.create("ok", container("exit 0"))
    phases = []
    async for pod in node.states("ok"):
        statuses = pod["status"].get("containerStatuses")
        if statuses and "terminated" in statuses[0]["state"]:
            phases.append(pod["status"]["phase"])
        if pod["status"]["phase"] == "Succeeded":
            break
    assert phases in (["Running", "Succeeded"], ["Pending", "Succeeded"])


async def test_the_conditions_change_as_on_a_real_kubelet(node: KubeletHarness) -> None:
    node.create("ok", container("sleep 0.2"))
    seen: list[Object] = []
    async for pod in node.states("ok"):
        if pod["status"].get("containerStatuses"):
            seen.append(pod)
        if pod["status"]["phase"] == "Succeeded":
            break
    unready = {"reason": "ContainersNotReady", "message": "containers with unready status: [base]", "status": "False"}
    assert condition(seen[0], "Ready") == condition(seen[0], "ContainersReady") == unready
    assert condition(seen[0], "PodReadyToStartContainers") == {"status": "False"}
    running = next(pod for pod in seen if pod["status"]["phase"] == "Running")
    for name in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"):
        assert condition(running, name) == {"status": "True"}
    for name, status in (("Initialized", "True"), ("Ready", "False"), ("ContainersReady", "False")):
        assert condition(seen[-1], name) == {"status": status, "reason": "PodCompleted"}
    assert condition(seen[-1], "PodReadyToStartContainers") == {"status": "False"}
    assert seen[-1]["status"]["qosClass"] == "BestEffort"
    assert seen[-1]["status"]["observedGeneration"] == 1


async def test_a_transition_time_changes_only_with_the_status(node: KubeletHarness) -> None:
    node.create("ok", container("sleep 1.1"))
    running = await node.running("ok")
    pod = await node.finished("ok")

    def since(pod: Object, name: str) -> str:
        return next(str(c["lastTransitionTime"]) for c in pod["status"]["conditions"] if c["type"] == name)

    assert since(pod, "Initialized") == since(running, "Initialized")
    assert since(pod, "Ready") > since(running, "Ready")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 3", 3, id="exit code"),
        pytest.param("python3 -c 'import os; os.kill(os.getppid(), 0); os.abort()'; exit $?", 134, id="child's signal"),
        pytest.param("nosuch", 127, id="command not found by the shell"),
    ],
)
async def test_a_pod_fails_with_the_exit_code_of_its_container(node: KubeletHarness, script: str, code: int) -> None:
    node.create("fail", container(script))
    pod = await node.finished("fail")
    assert pod["status"]["phase"] == "Failed"
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (code, "Error")
    assert condition(pod, "Ready") == {"status": "False", "reason": "PodFailed"}


@pytest.mark.parametrize(
    ("container_part", "message"),
    [
        pytest.param({"command": ["nosuch"]}, 'exec: "nosuch": executable file not found in $PATH', id="not found"),
        pytest.param(
            {"command": ["/no/such"]}, 'exec: "/no/such": stat /no/such: no such file or directory', id="path"
        ),
        pytest.param({"command": ["/etc/passwd"]}, 'exec: "/etc/passwd": permission denied', id="not executable"),
        pytest.param(
            {"command": ["sh"], "workingDir": "/etc/passwd"},
            "error during container init: mkdir /etc/passwd: not a directory",
            id="working directory",
        ),
    ],
)
async def test_a_process_that_cannot_start_is_a_start_error(
    any_node: KubeletHarness, container_part: dict[str, object], message: str
) -> None:
    any_node.create("bad", container(**container_part))
    end = terminated(await any_node.finished("bad"))
    assert (end["exitCode"], end["reason"], end["startedAt"]) == (128, "StartError", "1970-01-01T00:00:00Z")
    assert end["message"] == (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        f"unable to start container process: {message}: unknown"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"command": ["sh", "-c"], "args": ["echo $0 $1", "a", "b"]}, "a b", id="command and args"),
        pytest.param({"args": ["echo", "only args"]}, "only args", id="args alone"),
        pytest.param(
            {
                "command": ["echo", "$(A)-$(B)-$$(A)-$(NONE)"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "x$(A)"}],
            },
            "1-x1-$(A)-$(NONE)",
            id="variables are expanded",
        ),
        pytest.param({"command": ["pwd"], "workingDir": "/usr/share"}, "/usr/share", id="working directory"),
        pytest.param({"command": ["python", "-c", "print(1 + 1)"]}, "2", id="python"),
        pytest.param({"command": ["python3", "-c", "import sys; print(sys.stdin.read())"]}, "", id="no stdin"),
    ],
)
async def test_the_command_is_what_the_spec_says(node: KubeletHarness, spec: dict[str, object], expected: str) -> None:
    node.create("pod", container(**spec))
    assert (await node.output("pod")).strip() == expected


async def test_the_host_name_is_the_pods_name(node: KubeletHarness) -> None:
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("needs a namespace for the host name")
    node.create("pod", container("hostname; echo $HOSTNAME"))
    assert await node.output("pod") == "pod\npod\n"


@pytest.mark.parametrize("image", ["python:3.11-slim", "busybox", "docker.io/library/debian:bookworm-slim"])
async def test_an_image_with_a_known_name_has_its_own_command(node: KubeletHarness, image: str) -> None:
    node.create("pod", {"name": "base", "image": image})
    assert (await node.finished("pod"))["status"]["phase"] == "Succeeded"


async def test_an_image_that_cannot_be_pulled_keeps_the_pod_pending(node: KubeletHarness) -> None:
    node.create("pod", {"name": "base", "image": "invalid.example/team/app:1"})
    first = await node.waiting("pod", "ErrImagePull")
    assert first["message"].startswith('failed to pull and unpack image "invalid.example/team/app:1"')
    second = await node.waiting("pod", "ImagePullBackOff")
    assert second["message"] == f'Back-off pulling image "invalid.example/team/app:1": ErrImagePull: {first["message"]}'
    await node.waiting("pod", "ErrImagePull")
    assert node.pod("pod")["status"]["phase"] == "Pending"
    assert ("Failed", "Error: ImagePullBackOff") in node.events("pod")


@pytest.mark.parametrize("image", ["Upper/case", "white space", "a::b", ""])
async def test_an_invalid_image_reference_is_invalid_image_name(node: KubeletHarness, image: str) -> None:
    node.create("pod", {"name": "base", "image": image})
    assert "couldn't parse image name" in (await node.waiting("pod", "InvalidImageName"))["message"]


async def test_all_containers_run_at_once_and_the_pod_ends_with_the_last(node: KubeletHarness) -> None:
    node.create("two", container("exit 1", "a"), container("trap 'exit 0' TERM; sleep 0.1", "b"))
    pod = await node.finished("two")
    assert pod["status"]["phase"] == "Failed"
    assert [terminated(pod, name)["exitCode"] for name in "ab"] == [1, 0]


async def test_a_pod_with_policy_on_failure_restarts_until_it_succeeds(node: KubeletHarness) -> None:
    claim = [{"name": "data", "emptyDir": {}}]
    script = "echo run >> /data/runs; test $(wc -l < /data/runs) -eq 3 || exit 7"
    mounted = container(script, volumeMounts=[{"name": "data", "mountPath": "/data"}])
    node.create("again", mounted, restartPolicy="OnFailure", volumes=claim)
    pod = await node.finished("again")
    status = container_status(pod)
    assert (pod["status"]["phase"], status["restartCount"]) == ("Succeeded", 2)
    assert status["lastState"]["terminated"]["exitCode"] == 7


async def test_a_container_that_keeps_failing_is_backed_off(node: KubeletHarness) -> None:
    pod = node.create("crash", container("exit 3"), restartPolicy="Always")
    waiting = await node.waiting("crash", "CrashLoopBackOff")
    where = f"crash_ns({pod['metadata']['uid']})"
    assert waiting["message"] == f"back-off 0s restarting failed container=base pod={where}"
    last = container_status(node.pod("crash"))["lastState"]["terminated"]
    assert last["exitCode"] == 3
    assert node.pod("crash")["status"]["phase"] == "Running"
    assert ("BackOff", f"Back-off restarting failed container base in pod {where}") in node.events("crash")


async def test_a_deadline_ends_the_pod(node: KubeletHarness) -> None:
    node.create("late", container("trap 'exit 0' TERM; sleep 60 & wait"), activeDeadlineSeconds=1)
    pod = await node.finished("late")
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert pod["status"]["message"] == "Pod was active on the node longer than the specified deadline"
    assert terminated(pod)["exitCode"] == 0


async def test_events_record_the_start_of_a_container(node: KubeletHarness) -> None:
    node.create("ok", container("exit 0"))
    await node.finished("ok")
    assert node.events("ok") == [
        ("Pulled", 'Container image "busybox:1.36" already present on machine'),
        ("Created", "Created container: base"),
        ("Started", "Started container base"),
    ]


async def test_many_pods_start_together(node: KubeletHarness) -> None:
    names = [f"pod-{number}" for number in range(30)]
    for name in names:
        node.create(name, container(f"echo {name}"))
    assert await asyncio.gather(*map(node.output, names)) == [f"{name}\n" for name in names]
