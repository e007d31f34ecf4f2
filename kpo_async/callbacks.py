"""Users' callbacks: the functions they may override, and the one place that calls them.

A callback may be a class or an instance, derive from this module's base or from the incumbent's, and have plain or
`async` functions. Plain functions run in threads of their own, so that slow ones block neither the event loop nor what
else needs a thread: Airflow starts triggers by the loop's pool, which has 6 threads on 2 cores. Objects of the
`kubernetes` client are made only for overridden functions that take them. This module knows nothing of Airflow: it
passes on `operator` and `context` as they are.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from kpo_async import models
from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import CallbackError, CallbackTimeoutError, KpoError
from kpo_async.lease import lease

if TYPE_CHECKING:
    from airflow.sdk import Context
    from kubernetes.client import CoreV1Api, V1Pod

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ONLY_IN_WORKER = frozenset({"operator", "context"})
"""Arguments that a triggerer does not have."""
ERROR_LIMIT = 1024
"""Characters of an error of a user's function that are shown in a message."""
THREADS = 32
"""How many plain functions of users run at the same time in a process. More of them wait for one another."""
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kpo-async callbacks")


async def run_in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a user's function as `asyncio.to_thread` does, but in the threads for users' functions."""
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, call)


class ExecutionMode(StrEnum):
    """Where a callback runs: `sync` in a worker, `async` in the triggerer, which has no operator."""

    SYNC = "sync"
    ASYNC = "async"


class CallbackEvent(StrEnum):
    """The events of a pod's life that users may handle. Values are the names of the functions they override."""

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
    """Base of callback classes. Every function may be `async`. Return values are ignored.

    `client` is a `kubernetes.client.CoreV1Api`, `mode` an `ExecutionMode`. A worker calls the functions whose
    signatures name `operator` or `context`, because a triggerer has neither: `on_pod_starting` once a deferred task has
    resumed. In the triggerer the `**kwargs` of other functions have the operator None, and a context of what a trigger
    knows: `ti` and `run_id`.
    A function that takes `client` needs the package `kubernetes`: `pip install 'kpo-async[models]'`.
    """

    @staticmethod
    def on_sync_client_creation(*, client: CoreV1Api, operator: Any, **kwargs: Any) -> Any:
        """The worker has created `client`. Called once in each worker process of the task."""

    @staticmethod
    def on_pod_manifest_created(
        *, pod_request: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The pod is about to be created, with the changes that this function makes to `pod_request`."""

    @staticmethod
    def on_pod_creation(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The API server has accepted the pod."""

    @staticmethod
    def on_pod_starting(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The base container runs, or has already ended."""

    @staticmethod
    def on_pod_completion(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """The base container has ended, successfully or not."""

    @staticmethod
    def on_pod_teardown(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """All `on_pod_completion` have been called; the pod is about to be deleted, or kept."""

    @staticmethod
    def on_pod_cleanup(
        *, pod: V1Pod, client: CoreV1Api, mode: str, operator: Any, context: Context, **kwargs: Any
    ) -> Any:
        """`on_finish_action` has been carried out. Called after failures too."""

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
        """A worker has resumed the deferred task with the trigger's `event`."""

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
        """A line of a container's log has been read. An error of this function is logged and does not fail the task."""


class Callbacks:
    """The callbacks of one task in one process, and their common arguments.

    `make_client` is called at most once, before the first call of a function that takes a client. `deadline` is the
    task's execution_timeout, in seconds since the epoch. A call that has not returned by then raises
    `CallbackTimeoutError`: a coroutine is cancelled, a thread, which cannot be, is left behind. What else a function
    raises is raised as it is, but `in_triggerer` as a `CallbackError`, which names the function.
    """

    def __init__(
        self,
        classes: Sequence[object],
        *,
        mode: ExecutionMode = ExecutionMode.SYNC,
        make_client: Callable[[], object] | None = None,
        operator: object = None,
        context: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        in_triggerer: bool = False,
    ) -> None:
        self._mode = mode
        self._in_triggerer = in_triggerer or mode is ExecutionMode.ASYNC
        self._overrides = {event: _overrides(classes, event) for event in CallbackEvent}
        self._always = {"mode": mode, "operator": operator, "context": {} if context is None else context}
        self._make_client = make_client
        self._client: object = None
        self._deadline = deadline
        self._converted: tuple[Mapping[str, Any], V1Pod] | None = None
        self._progress_has_failed = False

    def wants(self, event: CallbackEvent) -> bool:
        """Whether `event` is handled. If not, the caller can save the request that its arguments would need."""
        return any(map(self._can_call, self._overrides[event]))

    def need_worker(self, *events: CallbackEvent) -> bool:
        """Whether a function for one of the events takes what no triggerer has."""
        return any(override.needs_worker for event in events for override in self._overrides[event])

    def grant(self, seconds: float) -> None:
        """Put the deadline off until at least `seconds` from now, for the callbacks of a task that has failed."""
        if self._deadline is not None:
            self._deadline = max(self._deadline, time.time() + seconds)

    async def client_created(self) -> None:
        """Call `on_sync_client_creation`. A worker process does so before the other callbacks."""
        await self._fire(CallbackEvent.SYNC_CLIENT_CREATION, {})

    async def manifest_created(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Call `on_pod_manifest_created`, and return the manifest as the callbacks left it."""
        if not self.wants(CallbackEvent.POD_MANIFEST_CREATED):
            return manifest
        pod = await asyncio.to_thread(models.to_v1pod, manifest)
        before = models.to_dict(pod)
        await self._fire(CallbackEvent.POD_MANIFEST_CREATED, {"pod_request": pod})
        after: dict[str, Any] = models.to_dict(pod)
        # The conversion loses fields that the installed client does not know, so an unchanged pod is not converted.
        return manifest if after == before else after

    async def pod_event(self, event: CallbackEvent, pod: Mapping[str, Any], /, **extra: Any) -> None:
        """Call the functions for an event whose functions take a `pod`, with `pod` as a `V1Pod`, and `extra`.

        Raises what a callback raises: it tells the author of the DAG of the mistake.
        """
        if self.wants(event):
            await self._fire(event, {"pod": await self._v1pod(pod), **extra})

    async def left_to_worker(self, event: CallbackEvent, pod: Mapping[str, Any]) -> None:
        """Do as `pod_event`, for those functions only that the triggerer could not call."""
        arguments = {"pod": await self._v1pod(pod)}
        for override in self._overrides[event]:
            if override.needs_worker:
                await self._call_in_time(override, arguments)

    async def progress(
        self, container: str, lines: Iterable[tuple[datetime | None, str]], pod: Mapping[str, Any]
    ) -> None:
        """Call `progress_callback` for each (timestamp, line). Its first error is logged with its traceback."""
        if not self.wants(CallbackEvent.PROGRESS):
            return
        v1pod = await self._v1pod(pod)
        for timestamp, line in lines:
            arguments = {"line": line, "container_name": container, "timestamp": timestamp, "pod": v1pod}
            try:
                await self._fire(CallbackEvent.PROGRESS, arguments)
            except Exception as error:  # the user's code; the loss of a line of log should not fail the task
                if not self._progress_has_failed:
                    log.exception("progress_callback raised; its further errors are not shown")
                self._progress_has_failed = True
                if isinstance(error, CallbackTimeoutError):
                    return

    async def _fire(self, event: CallbackEvent, arguments: dict[str, Any]) -> None:
        for override in filter(self._can_call, self._overrides[event]):
            await self._call_in_time(override, arguments)

    def _can_call(self, override: _Override) -> bool:
        return self._mode is ExecutionMode.SYNC or not override.needs_worker

    async def _call_in_time(self, override: _Override, arguments: dict[str, Any]) -> None:
        await lease().held()
        scope = timeout(None if self._deadline is None else max(0.0, self._deadline - time.time()))
        try:
            async with scope:
                await self._call(override, arguments)
        except (Exception, SystemExit) as error:
            if isinstance(error, asyncio.TimeoutError) and scope.expired():
                raise CallbackTimeoutError(
                    f"{override.name} had not returned when the task's execution_timeout passed"
                ) from None
            if not self._in_triggerer or isinstance(error, KpoError):
                raise
            # Airflow would end the trigger with "Trigger failure", and the triggerer itself after a SystemExit.
            raise CallbackError(
                f"the callback {override.name} raised {type(error).__name__}: {error}"[:ERROR_LIMIT]
            ) from error

    async def _call(self, override: _Override, arguments: dict[str, Any]) -> None:
        known = {**self._always, **arguments}
        if override.takes("client"):
            known["client"] = await self._get_client()
        taken = {name: value for name, value in known.items() if override.takes(name)}
        if inspect.iscoroutinefunction(override.function):
            await override.function(**taken)
        elif inspect.isawaitable(result := await run_in_thread(override.function, **taken)):
            await result

    async def _get_client(self) -> object:
        if self._client is None and self._make_client is not None:
            self._client = await run_in_thread(self._make_client)
        return self._client

    async def _v1pod(self, pod: Mapping[str, Any]) -> V1Pod:
        """Return `pod` converted. The same object is converted once, not again for every line of log."""
        if self._converted is None or self._converted[0] is not pod:
            # In a thread: the first conversion imports the client, which takes most of a second.
            self._converted = pod, await asyncio.to_thread(models.to_v1pod, pod)
        return self._converted[1]


@dataclass(frozen=True)
class _Override:
    """A user's function. It gets only the arguments that its signature has: older signatures lack newer ones."""

    function: Callable[..., Any]
    names: frozenset[str] | None
    """The keyword arguments that it takes; None if it takes any."""
    needs_worker: bool = False
    """Whether its signature names what only a worker has."""

    @property
    def name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def takes(self, name: str) -> bool:
        return self.names is None or name in self.names


def _overrides(classes: Sequence[object], event: CallbackEvent) -> tuple[_Override, ...]:
    """Return the functions for `event`, without the empty ones of the base class, this module's or the incumbent's."""
    found = []
    for target in classes:
        if inspect.isroutine(target):
            # A function is the operator's `progress_callback`, which gets nothing but the line.
            if event is CallbackEvent.PROGRESS:
                found.append(_Override(_of_line(target), frozenset({"line"})))
            continue
        kind = target if isinstance(target, type) else type(target)
        owner = next((cls for cls in kind.__mro__ if event.value in vars(cls)), None)
        if owner is None or owner.__name__ == KubernetesPodOperatorCallback.__name__:
            continue
        function: Callable[..., Any] = getattr(target, event.value)
        parameters = tuple(inspect.signature(function).parameters.values())
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = frozenset(parameter.name for parameter in parameters)
        found.append(_Override(function, None if takes_any else names, bool(names & ONLY_IN_WORKER)))
    return tuple(found)


def _of_line(function: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda line: function(line)
