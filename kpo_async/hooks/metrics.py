"""Publish what `kpo_async.metrics` collects through Airflow's own metrics: StatsD, Datadog or OpenTelemetry.

Where Airflow's metrics are off, nothing is collected. Airflow is called in a thread: its first call reads a file for
0.1 s and resolves the receiver's name, and later ones write to a socket.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from airflow.configuration import conf

from kpo_async import metrics
from kpo_async.hooks.airflow import stats
from kpo_async.kube.shared import SharedPerLoop
from kpo_async.metrics import PREFIX, Kind, Metric, Tags

log = logging.getLogger(__name__)

PERIOD = 10.0
"""Seconds between two publications."""
TICK = 0.25
"""Seconds between two looks at whether the event loop is late."""
STALL = 0.2
"""Seconds of lateness that are recorded."""
MEANS = ("statsd_datadog_enabled", "statsd_on", "otel_on")
"""The options of `[metrics]` that turn Airflow's metrics on, in the order in which Airflow looks at them."""


@asynccontextmanager
async def publishing(*, gauges: bool = True) -> AsyncIterator[None]:
    """Publish metrics during the block, once per event loop, and a last time a few seconds after the last block.

    `gauges`: whether to publish those, too. A process that shares its host with many like it should not: the values of
    all of them would have the same name. Does nothing where Airflow's metrics are off.
    """
    means = _means()
    if means is None:
        yield
        return
    async with _PUBLISHERS.use("publisher", lambda: Publisher(tagged=_is_tagged(means), gauges=gauges)):
        yield


def _means() -> str | None:
    """Return the option of `[metrics]` by which Airflow publishes, None where it does not."""
    return next((option for option in MEANS if conf.getboolean("metrics", option, fallback=False)), None)


def _is_tagged(means: str) -> bool:
    """Whether tags arrive as such. Plain StatsD has none: there, their values are parts of the name."""
    return means != "statsd_on" or conf.getboolean("metrics", "statsd_influxdb_enabled", fallback=False)


class Publisher:
    """The task of an event loop that publishes every `PERIOD`, and notices when the loop is late."""

    def __init__(self, *, tagged: bool, gauges: bool) -> None:
        self._tagged, self._gauges = tagged, gauges
        self._published: dict[tuple[Metric, Tags], float] = {}
        self._host = socket.gethostname()
        self._problem = ""
        metrics.collect()
        # An empty context: Airflow's log lines about metrics must not land in the log of the task that came first.
        self._task = contextvars.Context().run(asyncio.ensure_future, self._run())
        self._task.set_name("kpo-async metrics")

    async def aclose(self) -> None:
        """Publish what is left."""
        self._task.cancel()
        await asyncio.wait([self._task])
        measured = metrics.stop_collecting()
        await asyncio.to_thread(self._emit, measured, dict.fromkeys(self._published, 0.0))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + PERIOD
        async for late in _ticks():
            if late >= STALL:
                metrics.record(metrics.STALLS, late)
            if loop.time() >= due:
                due = loop.time() + PERIOD
                await asyncio.to_thread(self._emit, metrics.collect(), self._current_gauges())

    def _current_gauges(self) -> dict[tuple[Metric, Tags], float]:
        """Return the gauges, with 0 for each that was published before and that nothing provides any more."""
        if not self._gauges:
            return {}
        found = metrics.read_gauges()
        gone = dict.fromkeys(self._published.keys() - found.keys(), 0.0)
        self._published = found
        return {**gone, **found}

    def _emit(self, measured: metrics.Measurements, gauges: Mapping[tuple[Metric, Tags], float]) -> None:
        try:
            airflow = stats()
            for (metric, tags), amount in measured.counts.items():
                name, named = self._address(metric, tags)
                airflow.incr(name, amount, tags=named)
            for metric, seconds, tags in measured.times:
                name, named = self._address(metric, tags)
                airflow.timing(name, seconds * 1000, tags=named)
            for (metric, tags), value in gauges.items():
                name, named = self._address(metric, tags)
                airflow.gauge(name, value, tags=named)
        except Exception as error:  # whatever a user's StatsD client raises: no task may fail for it
            self._report(repr(error))
        else:
            self._problem = ""

    def _report(self, problem: str) -> None:
        """Log the same problem once until metrics are published again."""
        if problem != self._problem:
            log.warning("Metrics are not published: %s", problem)
        self._problem = problem

    def _address(self, metric: Metric, tags: Tags) -> tuple[str, dict[str, str]]:
        """Return the name and the tags under which Airflow gets a value."""
        given = dict(zip(metric.tags, tags, strict=True))
        if metric.kind is Kind.GAUGE:
            given = {"host": self._host, **given}
        if self._tagged:
            return PREFIX + metric.name, {tag: _clean(value) for tag, value in given.items()}
        return ".".join([PREFIX + metric.name, *(_clean(value).replace(".", "_") for value in given.values())]), {}


def _clean(value: str) -> str:
    """Return a tag's value without what StatsD's text format or a name in OpenTelemetry cannot hold."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", value) or "none"


async def _ticks() -> AsyncIterator[float]:
    """Yield every `TICK` how many seconds later than that it is."""
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(TICK)
        yield loop.time() - before - TICK


_PUBLISHERS: SharedPerLoop[str, Publisher] = SharedPerLoop(Publisher.aclose)
