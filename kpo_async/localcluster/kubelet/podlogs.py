"""Finds the log of a request, with a kubelet's errors when there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kpo_async.localcluster.kubelet.containers import ContainerWorker
from kpo_async.localcluster.kubelet.logfile import LogFile
from kpo_async.localcluster.kubelet.podstatus import Waiting
from kpo_async.localcluster.kubelet.podworker import PodWorker
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.store.objects import Object

_WAITING_TEXTS = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


async def read(worker: PodWorker | None, pod: Object, options: LogOptions) -> AsyncIterator[bytes]:
    """Yield the log of one container. Raises BadLogRequest."""
    container = worker.container(options.container) if worker else None
    name = pod["metadata"]["name"]
    if container is None:
        raise BadLogRequest(f'container "{options.container}" in pod "{name}" is not available')
    async for piece in _choose(container, name, previous=options.previous).read(options):
        yield piece


def _choose(container: ContainerWorker, pod_name: str, *, previous: bool) -> LogFile:
    record = container.record
    if previous:
        ended = container.current if isinstance(record.state, Waiting) else container.previous
        if record.last is None or ended is None:
            raise BadLogRequest(f'previous terminated container "{record.name}" in pod "{pod_name}" not found')
        return ended.log
    if container.current is None:
        reason = record.state.reason if isinstance(record.state, Waiting) else ""
        text = _WAITING_TEXTS.get(reason, reason)
        raise BadLogRequest(f'container "{record.name}" in pod "{pod_name}" is waiting to start: {text}')
    return container.current.log
