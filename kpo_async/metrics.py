"""What this package measures, as a table, and where measurements wait until a process publishes them.

    counters   `count(PODS_CREATED, cluster, namespace)` where something happens
    timers     `record(RUN_TIME, seconds, cluster, namespace)` where it has taken a while
    gauges     `provide_gauges(source)`: read when they are published, and never in between

Nothing is kept until a process calls `collect`, which `hooks.metrics` does where Airflow's metrics are on; until then a
call costs a tenth of a microsecond. So `kube`, `logs` and `lifecycle` measure without knowing who publishes. One event
loop of a process measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from kpo_async.compat import StrEnum

PREFIX = "kpo_async."
MOST_TIMES = 20_000
"""Durations that are kept between two publications; further ones are dropped."""


class Kind(StrEnum):
    """What a metric's values are."""

    COUNTER = "counter"
    """How often, since the last publication."""
    GAUGE = "gauge"
    """How much, now. Published with the tag `host` in front of the metric's own."""
    TIMER = "timer"
    """How long. Seconds here, milliseconds in Airflow's metrics."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One row of the table. `name` follows `PREFIX`; values of `tags` are given in their order."""

    name: str
    kind: Kind
    tags: tuple[str, ...]
    meaning: str


_POD = ("cluster", "namespace")

PODS = Metric("pods.living", Kind.GAUGE, (*_POD, "phase"), "Pods on the shared watch that are not done, by phase")
PENDING_AGE = Metric("pods.pending_age", Kind.GAUGE, _POD, "Seconds since the creation of the oldest pending pod")
PODS_CREATED = Metric("pods.created", Kind.COUNTER, _POD, "Pods created")
PODS_ENDED = Metric(
    "pods.ended",
    Kind.COUNTER,
    (*_POD, "verdict", "category"),
    "Pods whose wait ended, by verdict (succeeded, failed, lost, not_started, timed_out, error) and diagnosis",
)
SCHEDULE_TIME = Metric("pods.schedule_time", Kind.TIMER, _POD, "From a pod's creation to its having a node")
START_TIME = Metric("pods.start_time", Kind.TIMER, _POD, "From having a node to the base container's start")
RUN_TIME = Metric("pods.run_time", Kind.TIMER, _POD, "From the base container's start to its end")
END_LAG = Metric(
    "pods.end_lag",
    Kind.TIMER,
    _POD,
    "From the base container's end, in whole seconds as Kubernetes gives it, until the trigger or worker knows",
)
WATCH_EVENTS = Metric("watch.events", Kind.COUNTER, _POD, "Lines received by watches, bookmarks included")
WATCH_RELISTS = Metric("watch.relists", Kind.COUNTER, _POD, "Syncs of a watch after its first")
WATCH_RECONNECTS = Metric(
    "watch.reconnects",
    Kind.COUNTER,
    (*_POD, "cause"),
    "Requests of a watch after its first: its time was over (ended), or it broke or was refused (error)",
)
WATCH_AGE = Metric("watch.age", Kind.GAUGE, _POD, "Seconds since the shared watch has received anything")
API_REQUESTS = Metric(
    "api.requests",
    Kind.COUNTER,
    ("cluster", "verb", "resource", "code"),
    "Requests to API servers, by HTTP status; without an answer, by the reason for that",
)
LOG_LINES = Metric("logs.lines", Kind.COUNTER, (), "Lines read from containers' logs")
LOG_BYTES = Metric("logs.bytes", Kind.COUNTER, (), "Bytes read from containers' logs")
LOG_LAG = Metric("logs.lag", Kind.GAUGE, (), "Age in seconds of the oldest line that waits to be emitted")
PLACES_WAITING = Metric("places.waiting", Kind.GAUGE, (), "Tasks without a worker that wait for a place")
RECONCILED = Metric(
    "reconciler.pods", Kind.COUNTER, ("namespace", "action"), "Pods that the reconciler deleted or marked as done"
)
ORPHANS = Metric("reconciler.orphans", Kind.GAUGE, (), "Pods whose try is over and that are still to be dealt with")
STALLS = Metric("loop.stall", Kind.TIMER, (), "Delays of the event loop of 0.2 s and more")

METRICS = (
    PODS,
    PENDING_AGE,
    PODS_CREATED,
    PODS_ENDED,
    SCHEDULE_TIME,
    START_TIME,
    RUN_TIME,
    END_LAG,
    WATCH_EVENTS,
    WATCH_RELISTS,
    WATCH_RECONNECTS,
    WATCH_AGE,
    API_REQUESTS,
    LOG_LINES,
    LOG_BYTES,
    LOG_LAG,
    PLACES_WAITING,
    RECONCILED,
    ORPHANS,
    STALLS,
)

Tags: TypeAlias = tuple[str, ...]
Gauges: TypeAlias = Callable[[], Iterable[tuple[Metric, float, Tags]]]
"""Returns values of gauges now. Called on the event loop that it was provided on."""


@dataclass
class Measurements:
    """What was counted and timed since the last publication."""

    counts: dict[tuple[Metric, Tags], int] = field(default_factory=dict)
    times: list[tuple[Metric, float, Tags]] = field(default_factory=list)


_collected: Measurements | None = None
_sources: dict[Gauges, asyncio.AbstractEventLoop] = {}


def count(metric: Metric, *tags: str, by: int = 1) -> None:
    """Add `by` to a counter."""
    if _collected is not None:
        key = (metric, tags)
        _collected.counts[key] = _collected.counts.get(key, 0) + by


def record(metric: Metric, seconds: float, *tags: str) -> None:
    """Record a duration with a timer. A negative one, of two clocks that disagree, counts as 0."""
    if _collected is not None and len(_collected.times) < MOST_TIMES:
        _collected.times.append((metric, max(0.0, seconds), tags))


def provide_gauges(source: Gauges) -> Callable[[], None]:
    """Have `source` called, on this event loop, when gauges are published. Return a function that ends that."""
    for other, loop in list(_sources.items()):
        if loop.is_closed():
            del _sources[other]
    _sources[source] = asyncio.get_running_loop()

    def end() -> None:
        _sources.pop(source, None)

    return end


def collect() -> Measurements:
    """Begin to collect, and return what was collected before."""
    global _collected
    before, _collected = _collected, Measurements()
    return before or Measurements()


def stop_collecting() -> Measurements:
    """Return what was collected. Nothing is kept from now on."""
    global _collected
    before, _collected = _collected, None
    return before or Measurements()


def read_gauges() -> dict[tuple[Metric, Tags], float]:
    """Return the gauges of the running event loop. Where two sources have the same one, the larger value counts."""
    loop = asyncio.get_running_loop()
    found: dict[tuple[Metric, Tags], float] = {}
    for source in [source for source, owner in _sources.items() if owner is loop]:
        for metric, value, tags in source():
            found[metric, tags] = max(value, found.get((metric, tags), value))
    return found
