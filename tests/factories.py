"""Tries, owners, manifests and tasks for tests, and pods that are made of them on a cluster."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace as replace_dataclass
from typing import Any

from msgspec.structs import replace

from kpo_async import lifecycle
from kpo_async.callbacks import Callbacks
from kpo_async.compat import timeout
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.lifecycle import Owner, TaskRecord
from kpo_async.pod.build import PodParameters, build_pod
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod_task import ClusterRef, Outcome, PodTask

NO_CALLBACKS = Callbacks([])


def identity(try_number: int = 1, ti_id: str | None = None) -> TaskIdentity:
    """One try of a new task instance, unless `ti_id` is given."""
    return TaskIdentity(
        id=ti_id or str(uuid.uuid4()), dag_id="dag", task_id="task", run_id="run", try_number=try_number
    )


def owner(task: TaskIdentity, *, reattach: bool = True, installation: str | None = None, **fields: Any) -> Owner:
    """The owner of that try's pod, with other `fields` of its record."""
    return Owner(task, TaskRecord.of_try(task, **fields), installation, reattach)


def retry_of(task: TaskIdentity, try_number: int = 2) -> TaskIdentity:
    """A later try of the same task instance, which Airflow gives another id."""
    return replace_dataclass(task, id=str(uuid.uuid4()), try_number=try_number)


def manifest(task: TaskIdentity, script: str, **parameters: Any) -> Json:
    """A pod that runs `script` in sh."""
    defaults = {"task_id": "task", "image": "busybox:1.36", "cmds": ["sh", "-c"], "arguments": [script]}
    values = {**defaults, "namespace": "default", "termination_grace_period": 1, **parameters}
    return build_pod(PodParameters.of(values, warn=print), task=task)


def pod_task(pod: Json, kubeconfig: str = "", **fields: Any) -> PodTask:
    """The task of a pod as the server answered it."""
    metadata = pod["metadata"]
    cluster = ClusterRef(config_file=kubeconfig)
    owner = metadata["annotations"]["kpo-async/owner"]
    task = PodTask(metadata["name"], metadata["namespace"], metadata["uid"], owner, cluster=cluster)
    return replace(task, **fields)


async def create_pod(client: Client, script: str, **parameters: Any) -> Json:
    """Create the pod of a new task that runs `script`."""
    task = identity()
    return await lifecycle.ensure_pod(client, manifest(task, script, **parameters), owner(task))


async def wait_for_pod(client: Client, script: str, fields: Json | None = None, **parameters: Any) -> Outcome:
    """Create such a pod and wait for its end, as the task with these `fields`."""
    pod = await create_pod(client, script, **parameters)
    return await lifecycle.wait(client, pod_task(pod, **(fields or {})), NO_CALLBACKS)


async def pod_exists(client: Client, pod: Json) -> bool:
    """Whether the pod is there and not being deleted."""
    found = await PodHandle.of(client, pod).get()
    return found is not None and "deletionTimestamp" not in found["metadata"]


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 20.0) -> None:
    """Wait for what another process brings about. Raises TimeoutError after `within` seconds."""
    async with timeout(within):
        for _ in itertools.count():
            if await condition():
                return
            await asyncio.sleep(0.05)
