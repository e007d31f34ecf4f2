"""How many logs a process streams at once when it may open few files."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys

from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.logs.plan import LogPlan
from kpo_async.logs.pod import follow_pod
from kpo_async.logs.records import LogRecord
from kpo_async.pod.names import SELECTOR

FILES = 60
PODS = 80


async def test_many_logs_leave_files_for_calls_and_all_are_shown(
    local_cluster: LocalCluster, local_client: Client
) -> None:
    label = dict(item.split("=") for item in SELECTOR.split(",") if "!" not in item)
    for number in range(PODS):
        await local_client.create("pods", _pod(number, label), "default")
    command = [sys.executable, "-m", __name__, str(local_cluster.kubeconfig)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(child.communicate(), 60)
    assert output.decode().split() == ["called", str(PODS)]


def _pod(number: int, labels: Json) -> Json:
    """A pod that runs for long, without processes."""
    annotations = {"sim/log-lines": "1", "sim/run-for": "600s"}
    spec = {"restartPolicy": "Never", "containers": [{"name": "base", "image": "busybox:1.36"}]}
    return {"metadata": {"name": f"p{number}", "labels": labels, "annotations": annotations}, "spec": spec}


async def _follow_all(kubeconfig: str) -> None:
    """Follow the logs of all pods, make a call meanwhile, and print how many logs have shown a line."""
    shown: set[str] = set()
    all_shown = asyncio.Event()
    async with Client(await load(ClusterSource(config_file=kubeconfig))) as client:
        pods = (await client.list("pods", "default"))["items"]

        async def follow(pod: Json) -> None:
            handle = PodHandle.of(client, pod)

            def sink(record: LogRecord) -> None:
                shown.add(handle.name)
                if len(shown) == len(pods):
                    all_shown.set()

            async with handle.subscribe(selector=SELECTOR) as feed:
                await follow_pod(client, feed, LogPlan(), sink)

        following = [asyncio.create_task(follow(pod)) for pod in pods]
        await asyncio.sleep(3)
        await asyncio.gather(*(client.get("pods", pod["metadata"]["name"], "default") for pod in pods[:8]))
        print("called")
        await all_shown.wait()
        print(len(shown))
        for task in following:
            task.cancel()
        await asyncio.wait(following)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    asyncio.run(_follow_all(sys.argv[1]))
