"""Follow the logs of all wanted containers of one pod, started and ended by the informer's views of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from kpo_async.compat import TaskGroup, timeout
from kpo_async.kube.client import Client
from kpo_async.kube.watch import Subscription
from kpo_async.logs.emitter import Emitter
from kpo_async.logs.follow import ContainerLogFollower, LogState
from kpo_async.logs.lines import Cursor, seconds_of
from kpo_async.logs.plan import LineFormat, LogPlan, line_format
from kpo_async.logs.records import Sink
from kpo_async.logs.stage import ContainerStage, Stage
from kpo_async.pod.containers import Container
from kpo_async.pod.status import PodState, assess

COMPANION_GRACE = 2.0
"""Seconds for which other containers' logs are still read once the base container's has been emitted."""


async def follow_pod(
    client: Client,
    feed: Subscription,
    plan: LogPlan,
    sink: Sink,
    *,
    base: str = "base",
    formatter: LineFormat | None = None,
    cursors: MutableMapping[str, Cursor] | None = None,
) -> bool:
    """Emit the logs of the pod's containers as they come, to their end. Return whether all were read to their end.

    `feed` must be a subscription of its own. `base` is the name of the main container, `formatter` the callable that
    `plan` names. `cursors` says what was emitted before; at the end, it says how far that is now. Set a deadline by
    cancelling: what was read is then emitted, as far as that takes no more than `FLUSH_TIMEOUT` seconds.
    Raises what `feed` or `sink` raised.
    """
    async with TaskGroup() as group:
        pod = _PodLogs(
            client,
            plan,
            sink,
            base=base,
            format_line=line_format(prefix=plan.prefix, formatter=formatter),
            cursors={} if cursors is None else cursors,
            group=group,
        )
        tracking = pod.start("views", pod.track(feed))
        await pod.base_emitted.wait()
        with suppress(asyncio.TimeoutError):
            async with timeout(COMPANION_GRACE):
                await pod.wait_for_followers()
        pod.stop()
        tracking.cancel()
    if pod.failure is not None:
        raise pod.failure
    return all(follower.state is LogState.COMPLETE for follower in pod.followers.values())


class _PodLogs:
    """The followers of one pod, and the stages of its containers."""

    def __init__(
        self,
        client: Client,
        plan: LogPlan,
        sink: Sink,
        *,
        base: str,
        format_line: LineFormat,
        cursors: MutableMapping[str, Cursor],
        group: TaskGroup,
    ) -> None:
        self._client, self._plan, self._sink, self._cursors, self._group = client, plan, sink, cursors, group
        self._base, self._format_line = base, format_line
        self.followers: dict[str, ContainerLogFollower] = {}
        self.failure: Exception | None = None
        self.base_emitted = asyncio.Event()
        self._stages: dict[str, ContainerStage] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def track(self, feed: Subscription) -> None:
        """Start a follower for each container that appears, and raise the containers' stages with each view."""
        final = False
        while not final:
            view = await feed.next()
            final = view.presence.final
            state = assess(view.pod, self._base, gone=final)
            if view.pod is not None:
                self._follow_new(state, view.pod.metadata.name, view.pod.metadata.namespace)
            self._raise_stages(state, gone=final)

    def start(self, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(self._guarded(work), name=f"logs: {what}")

    async def wait_for_followers(self) -> None:
        """Wait for the followers that run now."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def stop(self) -> None:
        for stage in self._stages.values():
            stage.rise_to(Stage.UNWANTED)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        # Kept and raised by `follow_pod`: out of a TaskGroup it would come wrapped in an ExceptionGroup.
        try:
            await work
        except Exception as error:
            self.failure = self.failure or error
            self.base_emitted.set()

    def _follow_new(self, state: PodState, name: str, namespace: str) -> None:
        for container in self._plan.select(state):
            if container.name not in self.followers:
                cursor = self._cursors.get(container.name)
                stage = self._stages[container.name] = ContainerStage()
                lag_of = partial(self._lag_of, stage)
                emitter = Emitter(self._format_line, self._sink, cursor=cursor, lag_of=lag_of)
                follower = self.followers[container.name] = ContainerLogFollower(
                    self._client,
                    name,
                    namespace,
                    container.name,
                    stage=stage,
                    emitter=emitter,
                    cursor=cursor,
                )
                work = self._run(container.name, follower, emitter)
                self._tasks[container.name] = self.start(container.name, work)

    async def _run(self, container: str, follower: ContainerLogFollower, emitter: Emitter) -> None:
        try:
            await follower.run()
            await emitter.wait_until_empty()
        finally:
            await self._close(container, emitter)
        if container == self._base:
            self.base_emitted.set()

    async def _close(self, container: str, emitter: Emitter) -> None:
        try:
            await emitter.aclose()
        finally:
            self._cursors[container] = emitter.cursor

    def _lag_of(self, stage: ContainerStage, timestamp: str) -> float | None:
        """Return the seconds since `timestamp`, on the API server's clock; None if the container has ended."""
        seconds = seconds_of(timestamp)
        if stage.current is not Stage.RUNNING or seconds is None:
            return None
        return time.time() + self._client.clock.ahead.total_seconds() - seconds

    def _raise_stages(self, state: PodState, *, gone: bool) -> None:
        for name, stage in self._stages.items():
            container = state.container(name)
            if container is not None:
                ended = gone or container.ended or (name == self._base and state.verdict.ended)
                stage.rise_to(_stage(container, ended=ended))
        if (state.verdict.ended or gone) and self._base not in self.followers:
            self.base_emitted.set()


def _stage(container: Container, *, ended: bool) -> Stage:
    if ended:
        return Stage.ENDED if container.started else Stage.NEVER_RAN
    return Stage.RUNNING if container.started else Stage.WAITING
