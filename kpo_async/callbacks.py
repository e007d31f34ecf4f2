"""Users' callbacks: what they may override, and the one place that calls them.

A callback class works here whether it derives from this module's base or from the incumbent's, as a class or an
instance, with plain or `async` functions. Plain ones run in a thread, so that a slow one stalls nobody's event loop.
Objects of the `kubernetes` client are made only for a function that is overridden and asks for them. No Airflow here:
`operator` and `context` are handed through as they come.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kpo_async import models
from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import KpoError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api, V1Pod

log = logging.getLogger(__name__)


class ExecutionMode(StrEnum):
    """Where a callback runs: `sync` in a worker, `async` in the triggerer (where there is no operator)."""

    SYNC = "sync"
    ASYNC = "async"


class CallbackEvent(StrEnum):
    """The moments of a pod's story. Values are the names of the functions that users override."""

    SYNC_CLIENT_CREATION = "on_sync_client_creation"
    POD_MANIFEST_CREATED = "on_pod_manifest_created"
    POD_CREATION = "on_pod_creation"
    POD_STARTING = "on_pod_starting"
    POD_COMPLETION = "on_pod_completion"
    POD_TEARDOWN = "on_pod_teardown"
    POD_CLEANUP = "on_pod_cleanup"
    OPERATOR_RESUMING = "on_operator_resuming"
    PROGRESS = "progress_callback"


class KubernetesPodOperatorCallback:
    """Base of callback classes. Every function may be `async`; what it returns is ignored.

    `client` is a `kubernetes.client.CoreV1Api`, `mode` an `ExecutionMode`. In the triggerer `operator` is None.
    """

    @staticmethod
    def on_sync_client_creation(*, client: CoreV1Api, operator: Any, **kwargs: Any) -> Any:
        """The synchronous client was made, for this class or another. Once in each worker process of the task."""

    @staticmethod
    def on_pod_manifest_created(
        *, pod_request: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The pod is about to be created. Changes made to `pod_request` are."""

    @staticmethod
    def on_pod_creation(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The API server has accepted the pod."""

    @staticmethod
    def on_pod_starting(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The base container runs, or has run already."""

    @staticmethod
    def on_pod_completion(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The base container has ended, well or not."""

    @staticmethod
    def on_pod_teardown(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """All `on_pod_completion` were called; the pod is about to be deleted, or kept."""

    @staticmethod
    def on_pod_cleanup(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """`on_finish_action` was carried out, after failures too."""

    @staticmethod
    def on_operator_resuming(
        *,
        pod: V1Pod,
        event: dict[str, Any],
        client: CoreV1Api,
        mode: str,
        operator: Any,
        context: Context,
        **kwargs: Any,
    ) -> Any:
        """A worker has taken the task back from the triggerer, with the trigger's `event`."""

    @staticmethod
    def progress_callback(
        *,
        line: str,
        client: CoreV1Api,
        mode: str,
        container_name: str,
        timestamp: datetime | None,
        pod: V1Pod,
        **kwargs: Any,
    ) -> Any:
        """A line of a container's log was read. An error here is logged and does not fail the task."""


class Callbacks:
    """The callbacks of one task in one process, and what they are called with.

    `make_client` is called at most once, when a function that asks for a client is about to be called. `limit` is how
    many seconds one call may take; then the story goes on without it (a coroutine is cancelled, a thread cannot be).
    """

    def __init__(
        self,
        classes: Sequence[object],
        *,
        mode: ExecutionMode = ExecutionMode.SYNC,
        make_client: Callable[[], object] | None = None,
        operator: object = None,
        context: Mapping[str, Any] | None = None,
        limit: float | None = None,
    ) -> None:
        self._overrides = {hook: _overrides(classes, hook) for hook in CallbackEvent}
        self._always = {"mode": mode, "operator": operator, "context": {} if context is None else context}
        self._make_client = make_client
        self._client: object = None
        self._limit = limit
        self._converted: tuple[Mapping[str, Any], V1Pod] | None = None
        self._complained = False

    def wants(self, hook: CallbackEvent) -> bool:
        """Whether anybody overrides `hook`: what it needs (a GET of the pod, say) can be spared otherwise."""
        return bool(self._overrides[hook])

    async def client_created(self) -> None:
        """Call `on_sync_client_creation` if anybody wants it. To be called first in every worker process."""
        await self._fire(CallbackEvent.SYNC_CLIENT_CREATION, {})

    async def manifest_created(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Call `on_pod_manifest_created`; returns the manifest as the callbacks left it."""
        if not self.wants(CallbackEvent.POD_MANIFEST_CREATED):
            return manifest
        pod = await asyncio.to_thread(_to_v1pod, manifest)
        before = models.to_dict(pod)
        await self._fire(CallbackEvent.POD_MANIFEST_CREATED, {"pod_request": pod})
        after: dict[str, Any] = models.to_dict(pod)
        # The round trip drops fields that the installed client does not know: avoided where nothing was changed.
        return manifest if after == before else after

    async def pod_event(self, hook: CallbackEvent, pod: Mapping[str, Any], **extra: Any) -> None:
        """Call `hook` (any that takes a `pod`) with `pod` as a V1Pod. `OPERATOR_RESUMING` also wants `event=`.

        Whatever a callback raises is raised: the author of the DAG wants to know.
        """
        if self.wants(hook):
            await self._fire(hook, {"pod": await self._v1pod(pod), **extra})

    async def progress(
        self, container: str, lines: Iterable[tuple[datetime | None, str]], pod: Mapping[str, Any]
    ) -> None:
        """Call `progress_callback` for each (timestamp, line). Its errors are logged, the first with its traceback."""
        if not self.wants(CallbackEvent.PROGRESS):
            return
        v1pod = await self._v1pod(pod)
        for timestamp, line in lines:
            arguments = {"line": line, "container_name": container, "timestamp": timestamp, "pod": v1pod}
            try:
                await self._fire(CallbackEvent.PROGRESS, arguments)
            except Exception:  # the user's code, about a mere line of log
                if not self._complained:
                    log.exception("progress_callback raised; its further errors are not shown")
                self._complained = True

    async def _fire(self, hook: CallbackEvent, arguments: dict[str, Any]) -> None:
        for override in self._overrides[hook]:
            known = {**self._always, **arguments}
            if override.takes("client"):
                known["client"] = await self._get_client()
            await self._call(override.function, {name: value for name, value in known.items() if override.takes(name)})

    async def _call(self, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        scope = timeout(self._limit)
        try:
            async with scope:
                if inspect.iscoroutinefunction(function):
                    await function(**arguments)
                elif inspect.isawaitable(result := await asyncio.to_thread(function, **arguments)):
                    await result
        except asyncio.TimeoutError:
            if not scope.expired():
                raise
            log.warning("%s took longer than %g s: going on without it", function.__qualname__, self._limit)

    async def _get_client(self) -> object:
        if self._client is None and self._make_client is not None:
            self._client = await asyncio.to_thread(self._make_client)
        return self._client

    async def _v1pod(self, pod: Mapping[str, Any]) -> V1Pod:
        """`pod` converted, once for as long as it is the same object: a line of log costs no conversion."""
        if self._converted is None or self._converted[0] is not pod:
            # In a thread: the first time, it imports a client for the better part of a second.
            self._converted = pod, await asyncio.to_thread(_to_v1pod, pod)
        return self._converted[1]


@dataclass(frozen=True)
class _Override:
    """A user's function. Signatures written before an argument existed go on working: they are not given it."""

    function: Callable[..., Any]
    names: frozenset[str] | None
    """The keyword arguments that it takes, None for any."""

    def takes(self, name: str) -> bool:
        return self.names is None or name in self.names


def _overrides(classes: Sequence[object], hook: CallbackEvent) -> tuple[_Override, ...]:
    """What they have for `hook`, except the empty function of a base class, ours or the incumbent's."""
    found = []
    for target in classes:
        if inspect.isroutine(target):
            # A bare function is the operator's `progress_callback`: it is called with the line alone.
            if hook is CallbackEvent.PROGRESS:
                found.append(_Override(_of_line(target), frozenset({"line"})))
            continue
        kind = target if isinstance(target, type) else type(target)
        owner = next((cls for cls in kind.__mro__ if hook.value in vars(cls)), None)
        if owner is None or owner.__name__ == KubernetesPodOperatorCallback.__name__:
            continue
        function: Callable[..., Any] = getattr(target, hook.value)
        parameters = inspect.signature(function).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        found.append(_Override(function, None if takes_any else frozenset(p.name for p in parameters)))
    return tuple(found)


def _of_line(function: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda line: function(line)


def _to_v1pod(pod: Mapping[str, Any]) -> V1Pod:
    try:
        return models.to_v1pod(pod)
    except ModuleNotFoundError as error:
        raise KpoError(
            f"callbacks are given a V1Pod, but package {error.name!r} is not installed: `pip install kubernetes`"
        ) from error
