"""Finish the pods of tasks that triggers have ended, once Airflow has stored the ends.

Until then a pod itself says how its task ended: should this triggerer be killed, the next one reads it there. Airflow
is asked about many tasks at once, because a triggerer's supervisor answers one request after the other. A triggerer
that stops leaves its pods to the reconciler, which sees the same: the pod has ended, and its try is over.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from kpo_async import lifecycle
from kpo_async.exceptions import KpoError
from kpo_async.hooks.airflow import is_mapped, task_states
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, connect
from kpo_async.kube.shared import PerLoop
from kpo_async.pod_task import PodTask
from kpo_async.triggers.kill import DEFERRED

log = logging.getLogger(__name__)

PERIOD = 2.0
"""Seconds between two questions. Airflow stores the event of a trigger one or two seconds after it was fired."""
SHARE = 5.0
"""How much longer than the answers took the next question waits: Airflow reads all instances of a mapped task for it,
in the process that stores the ends."""
PATIENCE = 300.0
"""Seconds after which a task that is still deferred is another trigger's: of another triggerer, or of its next try.
That one deals with the pod."""
AT_ONCE = 20
"""Pods that are finished at once: the requests for hundreds would take the event loop 0.3 s to make."""
CHUNK = 50
"""Tasks in one request, whose names make up a URL."""


@dataclass(frozen=True)
class EndedPod:
    """A pod whose task a trigger has ended. `succeeded` is the pod's verdict."""

    task_instance: Any
    task: PodTask
    succeeded: bool


def finish_once_stored(source: ClusterSource, pod: EndedPod) -> None:
    """Finish a pod of this cluster when Airflow has stored the end of its task."""
    clusters = _CLUSTERS.get()
    if source not in clusters:
        clusters[source] = EndedPods(source)
    clusters[source].add(pod)


class EndedPods:
    """The pods of one cluster and event loop whose ends are not known to be stored."""

    def __init__(self, source: ClusterSource) -> None:
        self._source = source
        self._pods: dict[str, tuple[float, EndedPod]] = {}
        """By uid, with the loop's time at which the pod is given up."""
        self._finishing: asyncio.Task[None] | None = None

    def add(self, pod: EndedPod) -> None:
        """Finish the pod when Airflow has stored the end of its task."""
        self._pods[pod.task.uid] = asyncio.get_running_loop().time() + PATIENCE, pod
        if self._finishing is None:
            # In an empty context: its lines must not land in the log of the task that came first.
            self._finishing = contextvars.Context().run(asyncio.create_task, self._finish_all())
            self._finishing.set_name("kpo-async finishing of pods")

    async def aclose(self) -> None:
        """Leave the pods to the reconciler."""
        if self._finishing is not None:
            self._finishing.cancel()
            await asyncio.wait([self._finishing])

    async def _finish_all(self) -> None:
        try:
            async with connect(self._source) as client:
                forget = client.on_close(self.aclose)
                try:
                    await self._finish_with(client)
                finally:
                    forget()
        except KpoError as error:
            log.warning("%d pods are left to the reconciler: %s", len(self._pods), error)
            self._pods.clear()
        finally:
            self._finishing = None

    async def _finish_with(self, client: Client) -> None:
        loop, pause = asyncio.get_running_loop(), PERIOD
        while self._pods:
            await asyncio.sleep(pause)
            began = loop.time()
            stored = iter(await self._stored())
            pause = max(PERIOD, SHARE * (loop.time() - began))
            while some := list(islice(stored, AT_ONCE)):
                finished = (
                    lifecycle.finish(lifecycle.pod_of(client, p.task), p.task, succeeded=p.succeeded) for p in some
                )
                await asyncio.gather(*finished)
                self._forget(some)

    async def _stored(self) -> list[EndedPod]:
        """Return the pods whose tasks are no longer deferred."""
        found: list[EndedPod] = []
        for group in _groups(pod for _, pod in self._pods.values()):
            try:
                states = await task_states([pod.task_instance for pod in group])
            except Exception as error:  # whatever Airflow's channel raises
                log.warning("Airflow does not say whether the ends of tasks are stored, asking again: %r", error)
            else:
                found += [pod for pod in group if states[pod.task_instance.id] != DEFERRED]
        return found

    def _forget(self, finished: Iterable[EndedPod]) -> None:
        for pod in finished:
            self._pods.pop(pod.task.uid, None)
        now = asyncio.get_running_loop().time()
        for uid in [uid for uid, (given_up_at, _) in self._pods.items() if given_up_at <= now]:
            del self._pods[uid]


def _groups(pods: Iterable[EndedPod]) -> Iterator[list[EndedPod]]:
    """Yield the pods of one request each: of tasks of a run, or of instances of a mapped task."""
    for (*_, mapped_task), group in groupby(sorted(pods, key=_kind), key=_kind):
        remaining = iter(group)
        while chunk := list(islice(remaining, None if mapped_task else CHUNK)):
            yield chunk


def _kind(pod: EndedPod) -> tuple[str, str, str]:
    ti = pod.task_instance
    return ti.dag_id, ti.run_id, ti.task_id if is_mapped(ti) else ""


_CLUSTERS: PerLoop[dict[ClusterSource, EndedPods]] = PerLoop(dict)
