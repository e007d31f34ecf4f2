"""The times of a pod's life as metrics. Kubernetes' own are whole seconds."""

from __future__ import annotations

from datetime import datetime, timezone

from kpo_async.kube.pod_handle import PodHandle
from kpo_async.metrics import END_LAG, RUN_TIME, SCHEDULE_TIME, START_TIME, Metric, record
from kpo_async.pod.status import PodState


def record_times(pod: PodHandle, state: PodState) -> None:
    """Record how long each part of the life of a pod took, as far as it has come, at the moment its end is known."""
    known = datetime.now(timezone.utc) + pod.client.clock.ahead
    spans: tuple[tuple[Metric, datetime | None, datetime | None], ...] = (
        (SCHEDULE_TIME, state.created_at, state.scheduled_at),
        (START_TIME, state.scheduled_at, state.started_at),
        (RUN_TIME, state.started_at, state.finished_at),
        (END_LAG, state.finished_at, known),
    )
    for metric, begin, end in spans:
        if begin is not None and end is not None:
            record(metric, (end - begin).total_seconds(), pod.client.config.host, pod.namespace)
