"""`KubernetesPodStartTrigger` creates a task's pod in the triggerer and then follows it as `KubernetesPodTrigger` does.

Airflow's scheduler makes it from `start_trigger_args` instead of queueing the task. Another triggerer may run it again
from the beginning at any moment: the pod's name follows from the try, so it finds the pod that the first one made.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TriggerEvent

from kpo_async.exceptions import KpoError, PodError, clip
from kpo_async.hooks.airflow import is_mapped, masked
from kpo_async.hooks.heartbeat import renew_lease_on_exchanges
from kpo_async.hooks.metrics import publishing
from kpo_async.json_types import Json
from kpo_async.lease import lease
from kpo_async.operators.start_from_trigger import UNSTARTED
from kpo_async.pod_task import PodDiagnosis
from kpo_async.triggers.kill import kill_by, warm_up
from kpo_async.triggers.pod import KubernetesPodTrigger, directive_of, log_traceback_of_callback, push_diagnosis
from kpo_async.workerless.context import NeedsWorkerError
from kpo_async.workerless.places import Place
from kpo_async.workerless.start import PodStart

log = logging.getLogger(__name__)


class KubernetesPodStartTrigger(BaseTrigger):
    """Starts and follows one pod. `start` is JSON text of `operators.start_from_trigger`, unrendered.

    It must not have the name of a template field of the operator: Airflow would render it, as one text.
    """

    def __init__(self, start: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments = start
        self._start: PodStart | None = None
        self._place: Place | None = None
        self._follower: KubernetesPodTrigger | None = None

    def serialize(self) -> tuple[str, Json]:
        """Return the class's path and its only argument."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"start": self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Create the pod, follow it, and fire the one event that ends or resumes the task."""
        warm_up(self.task_instance)
        renew_lease_on_exchanges()
        await lease().held()
        timeout: Any = getattr(self, "timeout_after", None)
        self._start = PodStart(self.arguments, self.task_instance, None if timeout is None else timeout.timestamp())
        try:
            async with publishing():
                event = await self._start_pod(self._start)
            if event is not None:
                yield event
                return
            assert self._follower is not None
            # The operator, its manifest and its context are of no more use. A pod may run for days.
            self._place, self._start = self._start.place, None
            async for fired in self._follower.run():
                yield fired
        finally:
            place = self._place if self._start is None else self._start.place
            if place is not None:
                place.leave()

    async def on_kill(self) -> None:
        """End the pod of a task that its user ended, at whatever point of its start or life."""
        if self._follower is not None:
            await self._follower.on_kill()
        elif self._start is not None:
            ti: Any = self.task_instance
            await kill_by(self._start.kill, f"of {ti.task_id}, try {ti.try_number}", str(ti.id), ti)

    async def _start_pod(self, start: PodStart) -> TriggerEvent | None:
        """Create the pod. Return None, or the event that ends the task or leaves it to a worker."""
        try:
            task = await start.run()
        except NeedsWorkerError as error:
            return _unstarted(f"A worker starts this task in spite of start_from_trigger: {error}")
        except KpoError as error:
            log_traceback_of_callback(error)
            if start.may_fail and directive_of(error) is None:
                return await self._fail(start, error)
            return _unstarted(f"A worker tries to start this task, which the triggerer could not: {error}")
        except Exception as error:  # of a user's XCom backend: Airflow would only say "Trigger failure"
            reason = f"A worker tries to start this task, which the triggerer could not: {error!r}"
            log.debug("%s", reason, exc_info=True)
            return _unstarted(reason)
        self._follower = KubernetesPodTrigger(task.to_dict())
        self._follower.settled_at = 0.0  # no worker has deferred
        self._follower.task_instance = self.task_instance
        self._follower.starts_on_worker = False
        return None

    async def _fail(self, start: PodStart, error: KpoError) -> TriggerEvent:
        """Return the event that fails the task, with the error in its log."""
        if isinstance(error, PodError):
            await push_diagnosis(self.task_instance, PodDiagnosis(error.category, str(error), start.pod_name))
        log.error("%s%s", self._map_index(), error)
        start.leave_pod()
        return TaskFailedEvent()

    def _map_index(self) -> str:
        """Return what names the instance of a mapped task in front of its error."""
        ti: Any = self.task_instance
        return f"Map index {ti.map_index}: " if is_mapped(ti) else ""


def _unstarted(reason: str) -> TriggerEvent:
    """Log why a worker starts the task, and return the event that has it say so again.

    When that worker defers the task, its next trigger overwrites this one's log.
    """
    log.warning("%s", reason)
    return TriggerEvent({"status": UNSTARTED, "message": clip(masked(reason))})
