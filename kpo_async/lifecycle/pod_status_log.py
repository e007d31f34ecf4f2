"""Tells the user, in the task's log, what happens to the pod before and beside its own output. One line per change.

What it says comes from the watch, not from events of the API server: it costs no request and no right. The moment at
which the base container starts is also when `on_pod_starting` is called.
"""

from __future__ import annotations

import logging

from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.exceptions import NotFoundError
from kpo_async.kube.client import Client
from kpo_async.kube.watch.informer import View
from kpo_async.pod.status import PodState, Verdict
from kpo_async.pod_task import PodTask

log = logging.getLogger(__name__)


class PodStatusLogger:
    """Follows one pod's states; call it with each of them."""

    def __init__(self, client: Client, task: PodTask, callbacks: Callbacks) -> None:
        self._client = client
        self._task = task
        self._callbacks = callbacks
        self._said: dict[str, str] = {}
        self._started = False

    async def __call__(self, state: PodState, view: View) -> None:
        """Say what is new in `state`, and call `on_pod_starting` when its moment has come."""
        pod = f"Pod {self._task.namespace}/{self._task.name}"
        self._say_problem(pod, view)
        if state.node:
            self._say("node", f"{pod} is on node {state.node}")
        if self._task.events_on_startup and state.verdict in (Verdict.PENDING, Verdict.STARTING):
            self._say_waiting(pod, state)
        if not self._started and (state.verdict is Verdict.RUNNING or state.started_at is not None):
            self._started = True
            log.info("%s: container %r is running", pod, self._task.base_container)
            await self._starting()
        if state.terminating and not state.verdict.ended:
            self._say("terminating", f"{pod} is being deleted by somebody else")

    def _say_problem(self, pod: str, view: View) -> None:
        if view.problem is not None:
            self._say("problem", f"{pod} cannot be watched now, trying again: {view.problem}", logging.WARNING)
        elif self._said.pop("problem", None):
            log.info("%s is watched again", pod)

    def _say_waiting(self, pod: str, state: PodState) -> None:
        waiting = state.waiting
        if waiting is not None:
            self._say("waiting", f"{pod}: container {waiting.name!r} waits: {waiting.reason}: {waiting.message}")
        elif state.verdict is Verdict.PENDING and state.scheduling:
            self._say("waiting", f"{pod} has no node yet: {state.scheduling}")
        elif state.verdict is Verdict.PENDING and (state.message or state.reason):
            self._say("waiting", f"{pod} is pending: {state.reason}: {state.message}")

    def _say(self, topic: str, text: str, level: int = logging.INFO) -> None:
        if self._said.get(topic) != text:
            self._said[topic] = text
            log.log(level, "%s", text)

    async def _starting(self) -> None:
        if not self._callbacks.wants(CallbackEvent.POD_STARTING):
            return
        try:
            pod = await self._client.get("pods", self._task.name, self._task.namespace)
        except NotFoundError:
            return
        await self._callbacks.pod_event(CallbackEvent.POD_STARTING, pod)
