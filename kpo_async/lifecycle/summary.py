"""One row about one pod, for people who look at many: the page in Airflow's UI, and `kpo-async ps`. Pure; no clock.

A summary holds nothing that could be a secret: no environment variable, argument, label or annotation of the pod, apart
from what names its task, and no output of its programs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from fractions import Fraction

import msgspec

from kpo_async.api_types import ContainerSpec, Pod
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.causes import Category
from kpo_async.pod.diagnose import Diagnosis, diagnose
from kpo_async.pod.names import ATTEMPT_LABEL, TASK_ANNOTATION
from kpo_async.pod.quantity import format_bytes, parse_quantity
from kpo_async.pod.start import start_problem
from kpo_async.pod.status import PodState, Verdict, assess


class TaskKey(msgspec.Struct, frozen=True, order=True):
    """One try of a task instance. `map_index` is -1 when it is not mapped."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int


class PodSummary(msgspec.Struct, frozen=True):
    """What a row shows. Times are Kubernetes' own, in whole seconds, UTC."""

    uid: str
    namespace: str
    name: str
    task: TaskKey | None
    """None for a pod whose annotation cannot be read."""
    attempt: int
    """2 for the second pod of the same try."""
    phase: str
    """Kubernetes' phase; `Unknown` while there is none."""
    terminating: bool
    verdict: Verdict
    category: Category
    explanation: str
    """What the pod waits for, or why it ended; one line, empty while it runs and after it has succeeded."""
    node: str
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    restarts: int
    requests: dict[str, str]
    """What the scheduler reserves for the pod: quantities by the resource's name."""
    limits: dict[str, str]
    base: str
    """The container that decides how the task ends."""
    containers: list[str]
    """Those that have a log, in the order in which they start."""


def summarize(pod: Pod) -> PodSummary:
    """Return the summary of a pod as a watch shows it."""
    metadata = pod.metadata
    record = record_of(pod)
    state = assess(pod, record.base_container if record else "base")
    diagnosis = diagnose(pod, state, problem=start_problem(pod, state))
    is_plain = state.verdict in (Verdict.RUNNING, Verdict.SUCCEEDED)
    return PodSummary(
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        task=TaskKey(record.dag_id, record.task_id, record.run_id, record.map_index, record.try_number)
        if record
        else None,
        attempt=_attempt(pod),
        phase=state.phase or "Unknown",
        terminating=state.terminating,
        verdict=state.verdict,
        category=diagnosis.category,
        explanation=_still_running(state) if is_plain else _without_subject(_text(diagnosis, state), pod),
        node=state.node,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        restarts=sum(container.restarts for container in state.containers),
        requests=_totals(pod, "requests"),
        limits=_totals(pod, "limits"),
        base=state.base,
        containers=[container.name for container in state.containers if container.started],
    )


def record_of(pod: Pod) -> TaskRecord | None:
    """Return what the pod's annotation says about its task; None when it cannot be read."""
    try:
        return msgspec.json.decode((pod.metadata.annotations or {})[TASK_ANNOTATION], type=TaskRecord)
    except (KeyError, msgspec.MsgspecError):
        return None


def _attempt(pod: Pod) -> int:
    label = (pod.metadata.labels or {}).get(ATTEMPT_LABEL, "")
    return int(label) if label.isascii() and label.isdigit() else 1


def _still_running(state: PodState) -> str:
    """Return which containers keep a pod alive whose base container has ended."""
    names = ", ".join(map(repr, state.running_main_containers)) if state.verdict.ended else ""
    return f"succeeded; {names} still running" if names else ""


def _text(diagnosis: Diagnosis, state: PodState) -> str:
    """Return the diagnosis in words. A container that has run may have written its own message."""
    return (replace(diagnosis, detail="") if state.verdict.ended else diagnosis).text()


def _without_subject(text: str, pod: Pod) -> str:
    """Return a diagnosis without the pod's name, which a row shows beside it."""
    subject = f"pod {pod.metadata.namespace}/{pod.metadata.name}"
    return text.removeprefix(subject).removeprefix(":").lstrip()


def _totals(pod: Pod, kind: str) -> dict[str, str]:
    """Return the sums of all quantities of a kind, as the scheduler counts them.

    Main containers and sidecars run at the same time; an init container runs beside the sidecars before it
    (KEP-753).
    """
    running: dict[str, Fraction] = {}
    peak: dict[str, Fraction] = {}
    for container in pod.spec.init_containers or ():
        amounts = dict(_amounts(container, kind))
        for name, amount in amounts.items():
            peak[name] = max(peak.get(name, Fraction()), running.get(name, Fraction()) + amount)
        if container.restart_policy == "Always":
            _add(running, amounts.items())
    for container in pod.spec.containers or ():
        _add(running, _amounts(container, kind))
    names = sorted({*running, *peak})
    return {name: _format(name, max(running.get(name, Fraction()), peak.get(name, Fraction()))) for name in names}


def _amounts(container: ContainerSpec, kind: str) -> Iterator[tuple[str, Fraction]]:
    quantities = getattr(container.resources, kind, None) or {}
    for name, text in quantities.items():
        if (amount := parse_quantity(text)) is not None:
            yield name, amount


def _add(totals: dict[str, Fraction], amounts: Iterable[tuple[str, Fraction]]) -> None:
    for name, amount in amounts:
        totals[name] = totals.get(name, Fraction()) + amount


def _format(name: str, amount: Fraction) -> str:
    """Return the quantity as people write it: bytes in Mi, a part of a core in m."""
    if name == "memory" or name.startswith(("ephemeral-storage", "hugepages-")):
        return format_bytes(amount)
    return str(amount) if amount.denominator == 1 else f"{math.ceil(amount * 1000)}m"
