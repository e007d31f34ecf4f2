"""Write a line into the task's log for each change of the pod: its node, what it waits for, its start, its deletion.

All of it comes from the watch, not from the cluster's events, so it takes no request and no right. The moment at which
the base container starts is also when `on_pod_starting` is called.
"""

from __future__ import annotations

import logging

from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import View
from kpo_async.lifecycle.ownership import last_pod
from kpo_async.logs.channel import wait_for_room
from kpo_async.pod.status import PodState, Verdict
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)


class PodStatusLogger:
    """Logs the changes of one pod: call it with each of its states."""

    def __init__(self, pod: PodHandle, task: PodTask, callbacks: Callbacks) -> None:
        self._pod = pod
        self._task = task
        self._callbacks = callbacks
        self._logged: dict[str, str] = {}
        self._started = False

    async def __call__(self, state: PodState, view: View) -> None:
        """Log what is new in `state`, and call `on_pod_starting` when the base container has started."""
        await wait_for_room()
        self._log_watch(view)
        if state.node:
            self._log_once("node", f"Pod {self._pod} is on node {state.node}")
        if self._task.events_on_startup and state.verdict in (Verdict.PENDING, Verdict.STARTING):
            self._log_waiting(state)
        if not self._started and (state.verdict is Verdict.RUNNING or state.started_at is not None):
            self._started = True
            log.info("Pod %s: container %r is running", self._pod, self._task.base_container)
            await self._call_on_pod_starting()
        if state.terminating and not state.verdict.ended:
            self._log_once("terminating", f"Pod {self._pod} is being deleted, and not by this task")

    def _log_watch(self, view: View) -> None:
        if view.problem is not None:
            self._log_once("watch", f"Pod {self._pod}: watch interrupted, retrying: {view.problem}", logging.WARNING)
        elif self._logged.pop("watch", None):
            log.info("Pod %s: watch restored", self._pod)

    def _log_waiting(self, state: PodState) -> None:
        pod, waiting = f"Pod {self._pod}", state.waiting
        if waiting is not None:
            text = f"{pod}: container {waiting.name!r} is waiting: {waiting.reason}: {waiting.message}"
            self._log_once("waiting", text)
        elif state.verdict is Verdict.PENDING and state.scheduling:
            self._log_once("waiting", f"{pod} has no node yet: {state.scheduling}")
        elif state.verdict is Verdict.PENDING and (state.message or state.reason):
            self._log_once("waiting", f"{pod} is pending: {state.reason}: {state.message}")

    def _log_once(self, topic: str, text: str, level: int = logging.INFO) -> None:
        """Log `text` unless it is the last line about `topic`."""
        if self._logged.get(topic) != text:
            self._logged[topic] = text
            log.log(level, "%s", text)

    async def _call_on_pod_starting(self) -> None:
        if self._callbacks.wants(CallbackEvent.POD_STARTING):
            pod = await last_pod(self._pod.client, self._task)
            await self._callbacks.pod_event(CallbackEvent.POD_STARTING, pod)
