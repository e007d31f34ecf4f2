"""Graceful and forced deletion, signals, hooks, and that no process is ever left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from kpo_async.localcluster.runtime.runtime import Isolation, RuntimeLost
from tests.localcluster.kubelet.kubelet_harness import Lab, container, open_lab, terminated

POLITE = "trap 'echo bye; exit 9' TERM; echo up; while true; do sleep 1 & wait $!; done"
STUBBORN = "trap '' TERM; echo up; while true; do sleep 1; done"


async def test_a_deleted_pod_gets_sigterm_and_is_removed_after_its_last_status(any_lab: Lab) -> None:
    any_lab.create("pod", container(POLITE))
    await any_lab.logged("pod", "up")
    any_lab.delete("pod", 30)
    pod = await any_lab.removed("pod")
    assert terminated(pod)["exitCode"] == 9
    assert pod["status"]["phase"] == "Failed"
    assert pod["metadata"]["deletionTimestamp"]
    assert ("Killing", "Stopping container base") in any_lab.events("pod")


async def test_after_its_grace_a_container_is_killed(any_lab: Lab) -> None:
    any_lab.create("pod", container(STUBBORN))
    await any_lab.logged("pod", "up")
    any_lab.delete("pod", 1)
    assert terminated(await any_lab.removed("pod"))["exitCode"] == 137


async def test_the_first_process_of_a_container_ignores_sigterm_by_default(any_lab: Lab) -> None:
    any_lab.create("pod", container("echo up; exec sleep 60"))
    await any_lab.logged("pod", "up")
    any_lab.delete("pod", 1)
    assert terminated(await any_lab.removed("pod"))["exitCode"] == 137


async def test_a_second_deletion_may_shorten_the_grace(lab: Lab) -> None:
    lab.create("pod", container(STUBBORN))
    await lab.logged("pod", "up")
    lab.delete("pod", 60)
    await lab.until("pod", lambda pod: "deletionTimestamp" in pod["metadata"])
    await asyncio.sleep(0)
    lab.delete("pod", 0)
    assert terminated(await lab.removed("pod"))["exitCode"] == 137


async def test_a_pod_that_disappears_from_the_store_is_killed(any_lab: Lab) -> None:
    any_lab.create("pod", container(STUBBORN))
    await any_lab.logged("pod", "up")
    follower = asyncio.create_task(any_lab.log("pod", follow=True))
    await asyncio.sleep(0)
    any_lab.store.remove("pods", "ns", "pod")
    assert await follower == "up\n"


async def test_a_pod_that_still_waits_can_be_deleted(lab: Lab) -> None:
    lab.create("pod", container("exit 0"), initContainers=[{"name": "init", "image": "invalid.example/x"}])
    await lab.until("pod", lambda pod: "ErrImagePull" in str(pod["status"]))
    lab.delete("pod", 30)
    await lab.removed("pod")


async def test_a_pod_that_is_deleted_before_it_is_seen_is_removed(lab: Lab) -> None:
    lab.create("pod", container("exit 0"))
    lab.delete("pod", 30)
    await lab.removed("pod")


async def test_a_name_can_be_used_again(lab: Lab) -> None:
    for number in range(3):
        lab.create("pod", container(f"echo {number}; {POLITE}"))
        await lab.logged("pod", "up")
        assert await lab.log("pod") == f"{number}\nup\n"
        lab.delete("pod", 30)
        await lab.removed("pod")


async def test_finalizers_keep_a_pod_that_has_ended(lab: Lab) -> None:
    pod = lab.create("pod", container(POLITE))
    lab.store.update("pods", {**pod, "metadata": {**pod["metadata"], "finalizers": ["example.com/keep"]}})
    await lab.logged("pod", "up")
    lab.delete("pod", 30)
    await lab.finished("pod")
    assert lab.pod("pod")["metadata"]["finalizers"]


async def test_sidecars_are_told_to_stop_after_the_main_containers(any_lab: Lab) -> None:
    side = container(
        "trap 'printf last > /dev/termination-log; exit' TERM; while :; do sleep 1 & wait $!; done", "side"
    )
    any_lab.create("pod", container(STUBBORN), initContainers=[{**side, "restartPolicy": "Always"}])
    await any_lab.logged("pod", "up")
    any_lab.delete("pod", 1)
    pod = await any_lab.removed("pod")
    assert terminated(pod)["exitCode"] == 137
    assert terminated(pod, "side")["message"] == "last"


async def test_a_pre_stop_hook_runs_before_sigterm(lab: Lab) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    if lab.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("the hook finds the container's output through its PID namespace")
    lab.create("pod", container(POLITE, lifecycle=hook))
    await lab.logged("pod", "up")
    follower = asyncio.create_task(lab.log("pod", follow=True))
    await asyncio.sleep(0)
    lab.delete("pod", 30)
    assert await follower == "up\nhook\nbye\n"


async def test_a_pre_stop_hook_that_hangs_ends_with_the_grace(lab: Lab) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "60"]}}}
    lab.create("pod", container(POLITE, lifecycle=hook))
    await lab.logged("pod", "up")
    lab.delete("pod", 1)
    assert terminated(await lab.removed("pod"))["exitCode"] in (9, 137)


async def test_a_post_start_hook_that_fails_kills_the_container(lab: Lab) -> None:
    hook = {"postStart": {"exec": {"command": ["false"]}}}
    lab.create("pod", container(POLITE, lifecycle=hook))
    assert terminated(await lab.finished("pod"))["exitCode"] == 137
    assert "FailedPostStartHook" in dict(lab.events("pod"))


async def test_a_container_that_fails_its_liveness_probe_is_restarted(lab: Lab) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 0.02, "failureThreshold": 2}
    lab.create("pod", container(POLITE, livenessProbe=probe), restartPolicy="Always")
    pod = await lab.until("pod", lambda pod: "'restartCount': 1" in str(pod["status"]))
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 9


async def test_a_readiness_probe_decides_on_ready(lab: Lab) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 0.02}
    lab.create("pod", container(f"sleep 0.2; touch /tmp/ready; {POLITE}", readinessProbe=probe))
    pod = await lab.running("pod")
    assert pod["status"]["containerStatuses"][0]["ready"] is False
    await lab.until("pod", lambda pod: bool(pod["status"]["containerStatuses"][0]["ready"]))
    lab.delete("pod", 0)
    await lab.removed("pod")


BACKGROUND = "nohup setsid sleep 61 >/dev/null 2>&1 & (trap '' HUP TERM; sleep 62) & echo up; sleep 63"


async def test_nothing_is_left_of_a_container_that_has_ended(lab: Lab) -> None:
    if lab.kubelet.runtime.isolation is not Isolation.NAMESPACES:
        pytest.skip("without PID namespaces a daemon lives as long as the node")
    before = set(lab.processes())
    lab.create("pod", container("setsid sleep 61 & (trap '' HUP TERM; sleep 62) & echo up"))
    await lab.finished("pod")
    assert set(lab.processes()) == before


async def test_nothing_is_left_when_the_node_stops(any_lab: Lab) -> None:
    for number in range(5):
        any_lab.create(f"pod-{number}", container(BACKGROUND))
        await any_lab.logged(f"pod-{number}", "up")
    assert len(any_lab.processes()) > 15  # the fixture asserts that there are none afterwards


NODE_IN_A_PROCESS = """
import asyncio, sys
from pathlib import Path
from kpo_async.localcluster.runtime.runtime import Isolation
from tests.localcluster.kubelet.kubelet_harness import container, open_lab

async def main():
    async with open_lab(Path(sys.argv[1]), Isolation(sys.argv[2])) as lab:
        for number in range(3):
            lab.create(f"pod-{number}", container(sys.argv[3]))
            await lab.logged(f"pod-{number}", "up")
        print(lab.mark, flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("isolation", list(Isolation))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_containers_die_with_the_process_of_the_cluster(
    tmp_path: Path, isolation: Isolation, number: signal.Signals, lab: Lab
) -> None:
    if isolation is Isolation.NAMESPACES is not lab.kubelet.runtime.isolation:
        pytest.skip("needs namespaces")
    directory = tmp_path / "other"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", NODE_IN_A_PROCESS, str(directory), isolation.value, BACKGROUND),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    mark = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
    other = Lab(directory, isolation, lab.kubelet.settings)
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
from tests.localcluster.kubelet.kubelet_harness import container, open_lab

SCRIPT = "touch /etc/made /usr/share/made && cat /opt/own/dir/file && hostname && echo $PPID"

async def main():
    async with open_lab(Path(sys.argv[1])) as lab:
        lab.put("configmaps", "map", data={"file": "mounted "})
        mounts = [{"name": "v", "mountPath": "/opt/own/dir"}]
        volumes = [{"name": "v", "configMap": {"name": "map"}}]
        lab.create("pod", container(SCRIPT, volumeMounts=mounts), volumes=volumes)
        print((await lab.output("pod")).split())

asyncio.run(main())
"""


async def test_user_namespaces_do_where_the_rights_of_root_are_missing(tmp_path: Path) -> None:
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


async def test_a_node_whose_launcher_dies_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    async def kill_the_launcher() -> None:
        async with open_lab(tmp_path / "node") as lab:
            lab.create("pod", container(BACKGROUND))
            await lab.logged("pod", "up")
            assert lab.kubelet.runtime is not None
            os.kill(lab.kubelet.runtime.launcher_pid, signal.SIGKILL)
            assert lab.task is not None
            await asyncio.wait({lab.task})

    with pytest.raises(RuntimeLost):
        await kill_the_launcher()
