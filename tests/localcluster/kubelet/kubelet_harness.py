"""A kubelet without an API server: tests write pods to the store, and the kubelet runs real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kpo_async.localcluster.api.authentication import TokenAuthenticator
from kpo_async.localcluster.api.authorization import Authorizer
from kpo_async.localcluster.api.registry import Registry
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.client import InProcessClient
from kpo_async.localcluster.kubelet.kubelet import LocalKubelet
from kpo_async.localcluster.kubelet.settings import KubeletSettings
from kpo_async.localcluster.node import NODE_NAME, LogOptions
from kpo_async.localcluster.runtime.runtime import Isolation
from kpo_async.localcluster.store.objects import Object, WatchEventType
from kpo_async.localcluster.store.store import Store, StoreWatch, WatchFilter

NAMESPACE = "ns"
PROMPTLY = KubeletSettings(restart_delay=0.05, pull_delay=0.05, pull_report=0.01)
_PATIENCE = 20.0
_marks = itertools.count(os.getpid() * 1000)


def container(script: str = "", name: str = "base", **more: Any) -> dict[str, Any]:
    """Return a container that runs a shell script."""
    return {"name": name, "image": "busybox:1.36", **({"command": ["sh", "-c", script]} if script else {}), **more}


class KubeletHarness:
    """A store with a kubelet, and the steps of its tests."""

    def __init__(self, directory: Path, isolation: Isolation | None, settings: KubeletSettings) -> None:
        self.mark = str(next(_marks))
        self.store = Store()
        self.directory = directory
        self.task: asyncio.Task[None] | None = None
        """The kubelet's task."""
        self._deletions: dict[str, StoreWatch] = {}
        registry = Registry(self.store)
        client = InProcessClient(registry, Reviews(registry, TokenAuthenticator(self.store), Authorizer(self.store)))
        client.create("namespaces", {"metadata": {"name": NAMESPACE}})
        self.kubelet = LocalKubelet(
            client, directory, settings=settings, isolation=isolation, api_server=("127.0.0.1", int(self.mark))
        )

    def create(self, name: str, *containers: dict[str, Any], annotations: Any = None, **spec: Any) -> Object:
        """Create a pod that is bound to the node."""
        body = {"restartPolicy": "Never", "nodeName": NODE_NAME, "containers": list(containers), **spec}
        metadata = {"name": name, "namespace": NAMESPACE, "generation": 1, "annotations": annotations or {}}
        since = {"lastProbeTime": None, "lastTransitionTime": self.store.timestamp()}
        scheduled = {"type": "PodScheduled", "status": "True", **since}
        status = {"phase": "Pending", "conditions": [scheduled], "qosClass": "BestEffort"}
        return self.store.create("pods", {"metadata": metadata, "spec": body, "status": status})

    def put(self, resource: str, name: str, **content: Any) -> None:
        """Create a config map or a secret."""
        self.store.create(resource, {"metadata": {"name": name, "namespace": NAMESPACE}, **content})

    def pod(self, name: str) -> Object:
        return self.store.get("pods", NAMESPACE, name)

    async def states(self, name: str) -> AsyncIterator[Object]:
        """Yield the pod as it is, and after each change until its removal."""
        subscription = self.store.watch("pods", watch_filter=WatchFilter(NAMESPACE, name))
        try:
            yield self.pod(name)
            async for change in subscription:
                yield change.object
                if change.type is WatchEventType.DELETED:
                    return
        finally:
            subscription.close()

    async def until(self, name: str, condition: Callable[[Object], bool]) -> Object:
        """Wait until a pod meets a condition, and return it."""

        async def wait() -> Object:
            async for pod in self.states(name):
                if condition(pod):
                    return pod
            raise AssertionError(f"pod {name} was removed: {pod['status']}")

        return await asyncio.wait_for(wait(), _PATIENCE)

    async def finished(self, name: str) -> Object:
        """Wait until a pod has ended, and return it."""
        return await self.until(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))

    async def running(self, name: str) -> Object:
        """Wait until all main containers of a pod run, and return it."""
        return await self.until(
            name,
            lambda pod: all("running" in s["state"] for s in pod["status"].get("containerStatuses") or [{"state": ()}]),
        )

    async def waiting(self, name: str, reason: str) -> dict[str, Any]:
        """Wait until the first container waits for `reason`, and return its state."""
        pod = await self.until(name, lambda pod: waiting_reason(pod) == reason)
        return dict(pod["status"]["containerStatuses"][0]["state"]["waiting"])

    def delete(self, name: str, grace: int) -> None:
        """Mark a pod as the API server does on DELETE."""
        if name not in self._deletions:
            self._deletions[name] = self.store.watch("pods", watch_filter=WatchFilter(NAMESPACE, name))
        pod = self.pod(name)
        mark = {"deletionTimestamp": self.store.timestamp(), "deletionGracePeriodSeconds": grace}
        self.store.update("pods", {**pod, "metadata": {**pod["metadata"], **mark}})

    async def removed(self, name: str) -> Object:
        """Wait until a deleted pod is removed, and return its last state."""

        async def wait() -> Object:
            async for change in self._deletions.pop(name):
                if change.type is WatchEventType.DELETED:
                    return change.object
            raise AssertionError("the watch has ended")

        return await asyncio.wait_for(wait(), _PATIENCE)

    async def log(self, name: str, container: str = "base", **options: Any) -> str:
        """Return a container's log."""
        chunks = self.kubelet.log(self.pod(name), LogOptions(container, **options))
        return b"".join([chunk async for chunk in chunks]).decode()

    async def output(self, name: str) -> str:
        """Wait until a pod has ended, and return its log."""
        await self.finished(name)
        return await self.log(name)

    async def logged(self, name: str, text: str, container: str = "base") -> None:
        """Wait until a container has logged a text."""
        await self.until(name, lambda pod: "containerStatuses" in pod["status"] and has_run(pod, container))
        seen = ""
        chunks = self.kubelet.log(self.pod(name), LogOptions(container, follow=True))
        async for chunk in chunks:
            seen += chunk.decode()
            if text in seen:
                return
        raise AssertionError(f"{text!r} is not in the log: {seen!r}")

    def events(self, name: str) -> list[tuple[str, str]]:
        """Return the reasons and messages of a pod's events."""
        found = [event for event in self.store.list("events") if event["involvedObject"]["name"] == name]
        return [(event["reason"], event["message"]) for event in found]

    def processes(self) -> list[int]:
        """Return the ids of the processes that belong to the kubelet's containers, or run them."""
        found = []
        for pid in set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}:
            try:
                words = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if f"KUBERNETES_SERVICE_PORT={self.mark}".encode() in words or str(self.directory).encode() in words:
                found.append(int(pid))
        return found


def waiting_reason(pod: Object) -> str:
    """Return the reason for which the first container waits."""
    statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
    return str(statuses[0]["state"].get("waiting", {}).get("reason", ""))


def has_run(pod: Object, name: str) -> bool:
    """Whether a container has been created."""
    return "containerID" in container_status(pod, name)


def terminated(pod: Object, name: str = "base") -> dict[str, Any]:
    """Return the end of a container."""
    return dict(container_status(pod, name)["state"]["terminated"])


def container_status(pod: Object, name: str = "base") -> dict[str, Any]:
    """Return the status of a container or an init container."""
    status = pod["status"]
    every = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    return dict(next(entry for entry in every if entry["name"] == name))


def condition(pod: Object, name: str) -> dict[str, Any]:
    """Return a condition of a pod, without its times."""
    found = next(entry for entry in pod["status"]["conditions"] if entry["type"] == name)
    return {key: found[key] for key in ("status", "reason", "message") if key in found}


@asynccontextmanager
async def running_kubelet(
    directory: Path, isolation: Isolation | None = None, settings: KubeletSettings = PROMPTLY
) -> AsyncIterator[KubeletHarness]:
    """Run a kubelet. Fails if a process outlives it."""
    node = KubeletHarness(directory, isolation, settings)
    task = node.task = asyncio.create_task(node.kubelet.run())
    started = asyncio.create_task(node.kubelet.started.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield node
    finally:
        started.cancel()
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
        assert not node.processes()
