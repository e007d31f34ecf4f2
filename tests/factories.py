"""Pods for tests of the story, and what the story is told about them."""

from __future__ import annotations

import uuid
from typing import Any

from msgspec.structs import replace

from kpo_async.callbacks import Callbacks
from kpo_async.lifecycle.ownership import Owner
from kpo_async.pod.build import PodParameters, build_pod
from kpo_async.pod.names import TaskIdentity, siblings
from kpo_async.pod_task import ClusterRef, PodTask

NO_CALLBACKS = Callbacks([])


def identity(try_number: int = 1, ti_id: str | None = None) -> TaskIdentity:
    """One try of a task instance nobody has used before, unless `ti_id` is given."""
    return TaskIdentity(
        id=ti_id or str(uuid.uuid4()), dag_id="dag", task_id="task", run_id="run", try_number=try_number
    )


def owner(task: TaskIdentity, *, reattach: bool = True) -> Owner:
    return Owner(task.owner, siblings(task), task.try_number, reattach)


def manifest(task: TaskIdentity, script: str, **parameters: Any) -> dict[str, Any]:
    """A pod that runs `script` in sh."""
    defaults = {"task_id": "task", "image": "busybox:1.36", "cmds": ["sh", "-c"], "arguments": [script]}
    values = {**defaults, "namespace": "default", "termination_grace_period": 1, **parameters}
    return build_pod(PodParameters.of(values, warn=print), task=task)


def pod_task(pod: dict[str, Any], kubeconfig: str = "", **terms: Any) -> PodTask:
    """The terms for a pod as the server answered it."""
    metadata = pod["metadata"]
    cluster = ClusterRef(config_file=kubeconfig)
    task = PodTask(metadata["name"], metadata["namespace"], metadata["uid"], cluster=cluster)
    return replace(task, **terms)
