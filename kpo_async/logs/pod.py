"""Follow all wanted containers of one pod, from the views that an informer gives."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from contextlib import suppress
from typing import Any

from kpo_async.compat import TaskGroup, timeout
from kpo_async.kube.client import Client
from kpo_async.kube.watch.informer import Subscription
from kpo_async.logs.emitter import Emitter, Sink
from kpo_async.logs.follow import Follower, Lifeline
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LineFormat, LogPlan, line_format
from kpo_async.pod.status import PodState, assess

COMPANION_LINGER = 2.0
"""Seconds for which other containers' logs are still read once the base container's has been drained."""


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
    """Emit the logs of the pod's containers as they come, until they are drained. Whether all were read to their end.

    `feed` must be a subscription of its own. `base` is the name of the main container, `formatter` the callable that
    `plan` names. `cursors` says what was shown before, and is kept up to date. A deadline
    is set by cancelling: what was read has then been emitted, and the cursors say how far that is.
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
        pump = pod.start("views", pod.pump(feed))
        await pod.base_drained.wait()
        with suppress(asyncio.TimeoutError):
            async with timeout(COMPANION_LINGER):
                await pod.all_drained()
        pod.stop()
        pump.cancel()
    if pod.failure is not None:
        raise pod.failure
    return all(follower.complete for follower in pod.followers.values())


class _PodLogs:
    """The followers of one pod, and what they are told."""

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
        self.followers: dict[str, Follower] = {}
        self.failure: Exception | None = None
        self.base_drained = asyncio.Event()
        self._lives: dict[str, Lifeline] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def pump(self, feed: Subscription) -> None:
        """Tell the followers what each new view says of their containers, starting them as they get known."""
        final = False
        while not final:
            view = await feed.next()
            final = view.presence.final
            state = assess(view.pod, self._base, gone=final)
            if view.pod is not None:
                self._follow_new(state, view.pod.metadata.name, view.pod.metadata.namespace)
            self._tell(state, gone=final)

    def start(self, what: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._group.create_task(self._guarded(work), name=f"logs: {what}")

    async def all_drained(self) -> None:
        """Wait for the followers that run now."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def stop(self) -> None:
        for life in self._lives.values():
            life.tell(stopped=True)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        # Kept here and raised by `follow_pod`: out of a TaskGroup it would come wrapped in an ExceptionGroup.
        try:
            await work
        except Exception as error:
            self.failure = self.failure or error
            self.base_drained.set()

    def _follow_new(self, state: PodState, name: str, namespace: str) -> None:
        for container in self._plan.select(state):
            if container.name not in self.followers:
                life = self._lives[container.name] = Lifeline()
                emitter = Emitter(self._format_line, self._sink)
                follower = self.followers[container.name] = Follower(
                    self._client,
                    name,
                    namespace,
                    container.name,
                    life=life,
                    emitter=emitter,
                    cursor=self._cursors.get(container.name),
                )
                work = self._run(container.name, follower, emitter)
                self._tasks[container.name] = self.start(container.name, work)

    async def _run(self, container: str, follower: Follower, emitter: Emitter) -> None:
        try:
            await follower.run()
            await emitter.emptied()
        finally:
            emitter.close()
            self._cursors[container] = follower.cursor
        if container == self._base:
            self.base_drained.set()

    def _tell(self, state: PodState, *, gone: bool) -> None:
        for name, life in self._lives.items():
            container = state.container(name)
            if container is not None:
                over = gone or container.ended or (name == self._base and state.verdict.ended)
                life.tell(started=container.started, ended=over)
        if (state.verdict.ended or gone) and self._base not in self.followers:
            self.base_drained.set()
