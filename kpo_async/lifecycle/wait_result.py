"""How a wait ended: a category for programs, a sentence for people."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from kpo_async.api_types import Event
from kpo_async.exceptions import clip
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import View
from kpo_async.lifecycle.deadlines import Limit
from kpo_async.lifecycle.events import events_of
from kpo_async.pod.causes import HINTS, Category
from kpo_async.pod.diagnose import Diagnosis, diagnose, diagnose_companion
from kpo_async.pod.status import PodState, assess
from kpo_async.pod_task import OutcomeStatus, PodDiagnosis, PodTask

log = logging.getLogger(__name__)

EXECUTION_TIMEOUT = "ExecutionTimeout"
UNWATCHABLE = "Unwatchable"
GONE_HINT = "it was deleted, or a triggerer was killed while it ended the task: see the log above, then retry"


@dataclass(frozen=True)
class WaitResult:
    """How the wait for a pod ended: with the pod, or at a `limit`."""

    status: OutcomeStatus
    view: View
    state: PodState
    limit: Limit | None = None
    companion: PodState | None = None
    """The pod as seen from the companion that failed, if that is why the task fails."""


async def describe(client: Client, task: PodTask, end: WaitResult) -> PodDiagnosis:
    """Return how the wait ended, after a line about it in the task's log.

    Lists the pod's events only where its status does not explain the end.
    """
    pod = f"{task.namespace}/{task.name}"
    if end.status is OutcomeStatus.ERROR:
        why = end.view.problem or "the API server answers, but sends nothing about this pod"
        return PodDiagnosis(UNWATCHABLE, f"pod {pod} cannot be watched: {why}", pod)
    found = _with_fitting_hint(task, _diagnosis(task, end, await _events(client, task, end)))
    category, message = str(found.category), found.text()
    if end.status is OutcomeStatus.TIMED_OUT:
        fate = "has ended" if end.state.verdict.ended else "was stopped"
        category, message = EXECUTION_TIMEOUT, f"execution_timeout has passed, pod {pod} {fate}: {found.summary}"
        log.info("%s", message)
    else:
        _log_summary(found)
    return PodDiagnosis(
        category=category,
        message=clip(message),
        pod=pod,
        node=end.state.node,
        container=found.container,
        exit_code=found.exit_code,
        signal=found.signal_name,
        reason=found.reason,
        hints=[found.hint] if found.hint else [],
    )


def _diagnosis(task: PodTask, end: WaitResult, events: list[Event]) -> Diagnosis:
    pod, state, limit = end.view.pod, end.state, end.limit
    if pod is None and end.status is OutcomeStatus.LOST:
        return Diagnosis(
            Category.DELETED, f"pod {task.namespace}/{task.name} was gone before it was seen", hint=GONE_HINT
        )
    if end.companion is not None:
        _log_summary(diagnose(pod, state))
        return diagnose_companion(pod, end.companion)
    if limit is None:
        return diagnose(pod, state, events)
    if end.status is OutcomeStatus.LOST:
        # Its node has stopped reporting: the pod is as good as gone.
        return diagnose(pod, assess(pod, task.base_container, gone=True), events)
    return diagnose(pod, state, events, problem=limit.problem, missed=limit.missed)


def _log_summary(diagnosis: Diagnosis) -> None:
    """Write the summary into the task's log, as a sentence."""
    log.info("%s", diagnosis.summary[:1].upper() + diagnosis.summary[1:])


def _with_fitting_hint(task: PodTask, diagnosis: Diagnosis) -> Diagnosis:
    """Point to the task's log where the task shows the container's, and to the parameter where it does not."""
    is_shown = task.logs is not None and task.logs.containers
    if diagnosis.hint == HINTS[Category.EXIT_CODE] and not is_shown:
        return replace(diagnosis, hint="with get_logs=True the task's log has the program's output")
    if diagnosis.hint == HINTS[Category.INIT_FAILED] and task.logs is not None and task.logs.init_containers:
        return replace(diagnosis, hint="see its output in the task's log")
    return diagnosis


async def _events(client: Client, task: PodTask, end: WaitResult) -> list[Event]:
    """Return the cluster's events of a pod whose status does not explain its end, or whose task logs them."""
    unexplained = end.status in (OutcomeStatus.NOT_STARTED, OutcomeStatus.LOST)
    if not unexplained and (end.status is OutcomeStatus.SUCCEEDED or not task.events_on_failure):
        return []
    events = await events_of(PodHandle(client, task.namespace, task.name, task.uid))
    if task.events_on_failure:
        for event in events:
            log.info("Event of pod %s/%s: %s: %s", task.namespace, task.name, event.reason, event.message)
    return events
