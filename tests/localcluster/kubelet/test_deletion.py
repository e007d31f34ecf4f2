"""Graceful and forced deletion, signals and hooks; no process is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from kpo_async.localcluster.runtime.runtime import Isolation, RuntimeLost
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, container, running_kubelet, terminated

POLITE = "trap 'echo bye; exit 9' TERM; echo up; while true; do sleep 1 & wait $!; done"
STUBBORN = "trap '' TERM; echo up; while true; do sleep 1; done"


async def test_a_deleted_pod_gets_sigterm_and_is_removed_after_its_last_status(any_node: KubeletHarness) -> None:
    any_node.create("pod", container(POLITE))
    await any_node.logged("pod", "up")
    any_node.delete("pod", 30)
    pod = await any_node.removed("pod")
    assert terminated(pod)["exitCode"] == 9
    assert pod["status"]["phase"] == "Failed"
    assert pod["metadata"]["deletionTimestamp"]
    assert ("Killing", "Stopping container base") in any_node.events("pod")


async def test_a_container_is_killed_after_its_grace(any_node: KubeletHarness) -> None:
    any_node.create("pod", container(STUBBORN))
    await any_node.logged("pod", "up")
    any_node.delete("pod", 1)
    assert terminated(await any_node.removed("pod"))["exitCode"] == 137


async def test_the_first_process_of_a_container_ignores_sigterm_by_default(any_node: KubeletHarness) -> None:
    any_node.create("pod", container("echo up; exec sleep 60"))
    await any_node.logged("pod", "up")
    any_node.delete("pod", 1)
    assert terminated(await any_node.removed("pod"))["exitCode"] == 137


async def test_a_second_deletion_may_shorten_the_grace(node: KubeletHarness) -> None:
    node.create("pod", container(STUBBORN))
    await node.logged("pod", "up")
    node.delete("pod", 60)
    await node.until("pod", lambda pod: "deletionTimestamp" in pod["metadata"])
    await asyncio.sleep(0)
    node.delete("pod", 0)
    assert terminated(await node.removed("pod"))["exitCode"] == 137


async def test_a_pod_that_is_removed_from_the_store_is_killed(any_node: KubeletHarness) -> None:
    any_node.create("pod", container(STUBBORN))
    await any_node.logged("pod", "up")
    follower = asyncio.create_task(any_node.log("pod", follow=True))
    await asyncio.sleep(0)
    any_node.store.remove("pods", "ns", "pod")
    assert await follower == "up\n"


async def test_a_waiting_pod_can_be_deleted(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"), initContainers=[{"name": "init", "image": "invalid.example/x"}])
    await node.until("pod", lambda pod: "ErrImagePull" in str(pod["status"]))
    node.delete("pod", 30)
    await node.removed("pod")


async def test_a_pod_that_is_deleted_before_its_start_is_removed(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"))
    node.delete("pod", 30)
    await node.removed("pod")


async def test_a_pods_name_can_be_reused(node: KubeletHarness) -> None:
    for number in range(3):
        node.create("pod", container(f"echo {number}; {POLITE}"))
        await node.logged("pod", "up")
        assert await node.log("pod") == f"{number}\nup\n"
        node.delete("pod", 30)
        await node.removed("pod")


async def test_finalizers_keep_a_pod_that_has_ended(node: KubeletHarness) -> None:
    pod = node.create("pod", container(POLITE))
    node.store.update("pods", {**pod, "metadata": {**pod["metadata"], "finalizers": ["example.com/keep"]}})
    await node.logged("pod", "up")
    node.delete("pod", 30)
    await node.finished("pod")
    assert node.pod("pod")["metadata"]["finalizers"]


async def test_sidecars_are_stopped_after_the_main_containers(any_node: KubeletHarness) -> None:
    side = container(
        "trap 'printf last > /dev/termination-log; exit' TERM; while :; do sleep 1 & wait $!; done", "side"
    )
    any_node.create("pod", container(STUBBORN), initContainers=[{**side, "restartPolicy": "Always"}])
    await any_node.logged("pod", "up")
    any_node.delete("pod", 1)
    pod = await any_node.removed("pod")
    assert terminated(pod)["exitCode"] == 137
    assert terminated(pod, "side")["message"] == "last"


async def test_a_pre_stop_hook_runs_before_sigterm(node: KubeletHarness) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("the hook finds the container's output through its PID namespace")
    node.create("pod", container(POLITE, lifecycle=hook))
    await node.logged("pod", "up")
    follower = asyncio.create_task(node.log("pod", follow=True))
    await asyncio.sleep(0)
    node.delete("pod", 30)
    assert await follower == "up\nhook\nbye\n"


async def test_a_pre_stop_hook_that_hangs_ends_with_the_grace(node: KubeletHarness) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "60"]}}}
    node.create("pod", container(POLITE, lifecycle=hook))
    await node.logged("pod", "up")
    node.delete("pod", 1)
    assert terminated(await node.removed("pod"))["exitCode"] in (9, 137)


async def test_a_post_start_hook_that_fails_kills_the_container(node: KubeletHarness) -> None:
    hook = {"postStart": {"exec": {"command": ["false"]}}}
    node.create("pod", container(POLITE, lifecycle=hook))
    assert terminated(await node.finished("pod"))["exitCode"] == 137
    assert "FailedPostStartHook" in dict(node.events("pod"))


async def test_a_container_that_fails_its_liveness_probe_is_restarted(node: KubeletHarness) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 0.02, "failureThreshold": 2}
    node.create("pod", container(POLITE, livenessProbe=probe), restartPolicy="Always")
    pod = await node.until("pod", lambda pod: "'restartCount': 1" in str(pod["status"]))
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 9


async def test_a_readiness_probe_sets_ready(node: KubeletHarness) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 0.02}
    node.create("pod", container(f"sleep 0.2; touch /tmp/ready; {POLITE}", readinessProbe=probe))
    pod = await node.running("pod")
    assert pod["status"]["containerStatuses"][0]["ready"] is False
    await node.until("pod", lambda pod: bool(pod["status"]["containerStatuses"][0]["ready"]))
    node.delete("pod", 0)
    await node.removed("pod")


BACKGROUND = "nohup setsid sleep 61 >/dev/null 2>&1 & (trap '' HUP TERM; sleep 62) & echo up; sleep 63"


async def test_no_process_outlives_its_container(node: KubeletHarness) -> None:
    if node.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("without PID namespaces a daemon runs until the kubelet ends")
    before = set(node.processes())
    node.create("pod", container("setsid sleep 61 & (trap '' HUP TERM; sleep 62) & echo up"))
    await node.finished("pod")
    assert set(node.processes()) == before


async def test_no_process_outlives_the_kubelet(any_node: KubeletHarness) -> None:
    for number in range(5):
        any_node.create(f"pod-{number}", container(BACKGROUND))
        await any_node.logged(f"pod-{number}", "up")
    assert len(any_node.processes()) > 15  # The fixture asserts that none is left.


NODE_IN_A_PROCESS = """
import asyncio, sys
from pathlib import Path
from kpo_async.localcluster.runtime.runtime import Isolation
from tests.localcluster.kubelet.kubelet_harness import container, running_kubelet

async def main():
    async with running_kubelet(Path(sys.argv[1]), Isolation(sys.argv[2])) as node:
        for number in range(3):
            node.create(f"pod-{number}", container(sys.argv[3]))
            await node.logged(f"pod-{number}", "up")
        print(node.mark, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_containers_end_with_the_clusters_process(
    tmp_path: Path, isolation: Isolation, number: signal.Signals, node: KubeletHarness
) -> None:
    if isolation is Isolation.NAMESPACES is not node.kubelet.runtime.isolation:
        pytest.skip("needs namespaces")
    directory = tmp_path / "other"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NODE_IN_A_PROCESS, str(directory), isolation.value, BACKGROUND),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    mark = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
    other = KubeletHarness(directory, isolation, node.kubelet.settings)
    other.mark = mark
    pids = other.processes()
    assert len(pids) > 10
    watched = [os.pidfd_open(pid) for pid in pids]
    process.send_signal(number)
    await process.wait()
    for descriptor in watched:
        await asyncio.wait_for(readable(descriptor), 10)
        os.close(descriptor)
    assert other.processes() == []


UNPRIVILEGED = """
import asyncio, sys
from pathlib import Path
from tests.localcluster.kubelet.kubelet_harness import container, running_kubelet

SCRIPT = "touch /etc/made /usr/share/made && cat /opt/own/dir/file && hostname && echo $PPID"

async def main():
    async with running_kubelet(Path(sys.argv[1])) as node:
        node.put("configmaps", "map", data={"file": "mounted "})
        mounts = [{"name": "v", "mountPath": "/opt/own/dir"}]
        volumes = [{"name": "v", "configMap": {"name": "map"}}]
        node.create("pod", container(SCRIPT, volumeMounts=mounts), volumes=volumes)
        print((await node.output("pod")).split())

asyncio.run(main())
"""


async def test_user_namespaces_replace_the_privileges_of_root(tmp_path: Path) -> None:
    drop = ("setpriv", "--bounding-set", "-sys_admin")
    try:
        probe = await asyncio.create_subprocess_exec(*drop, "unshare", "--user", "--map-root-user", "--mount", "true")
    except FileNotFoundError:
        pytest.skip("needs setpriv and unshare")
    if await probe.wait() != 0:
        pytest.skip("user namespaces are not allowed here")
    arguments = (sys.executable, "-c", UNPRIVILEGED, str(tmp_path / "node"))
    process = await asyncio.create_subprocess_exec(*drop, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().strip() == "['mounted', 'pod', '0']"


async def readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(descriptor, lambda: future.done() or future.set_result(None))
    try:
        await future
    finally:
        loop.remove_reader(descriptor)


async def test_a_kubelet_whose_launcher_dies_raises_and_leaves_no_process(tmp_path: Path) -> None:
    async def kill_the_launcher() -> None:
        async with running_kubelet(tmp_path / "node") as node:
            node.create("pod", container(BACKGROUND))
            await node.logged("pod", "up")
            children = psutil.Process().children()
            [launcher] = [child for child in children if str(node.directory) in " ".join(child.cmdline())]
            launcher.kill()
            assert node.task is not None
            await asyncio.wait({node.task})

    with pytest.raises(RuntimeLost):
        await kill_the_launcher()
