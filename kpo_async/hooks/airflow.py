"""Compatibility with Airflow's versions; the only module that touches Airflow's internals.

Its functions are what the callers want: the state of a task instance, an XCom, how long a deferral takes to settle.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from typing import Any

from airflow import __version__, settings
from airflow.configuration import conf
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async
from packaging.version import Version

from kpo_async.hooks.answers import answered
from kpo_async.hooks.triggerer import TRIGGERER_MODULE

_version = Version(__version__)

# They moved to the SDK in Airflow 3.2, which warns of the old names.
_exceptions = import_module("airflow.sdk.exceptions" if _version >= Version("3.2") else "airflow.exceptions")
AirflowException = _exceptions.AirflowException
AirflowFailException = _exceptions.AirflowFailException
AirflowNotFoundException = _exceptions.AirflowNotFoundException
AirflowSkipException = _exceptions.AirflowSkipException
AirflowTaskTimeout = _exceptions.AirflowTaskTimeout
ParamValidationError = _exceptions.ParamValidationError
TaskDeferred = _exceptions.TaskDeferred

AIRFLOW_VERSION: str = __version__

__all__ = [
    "AIRFLOW_VERSION",
    "ENDED",
    "FAILING_IN_TRIGGERER_RETRIES",
    "TRIGGERS_ARE_KILLED",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRuntimeError",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "ParamValidationError",
    "TaskDeferred",
    "count_instances",
    "database_answers",
    "deferral_settles_after",
    "get_connection",
    "get_extra",
    "get_variable",
    "get_xcom",
    "in_triggerer",
    "is_mapped",
    "load_lazy",
    "log_path",
    "log_path_renderer",
    "masked",
    "pod_mutation_hook",
    "pull_xcom",
    "push_xcom",
    "remote_logging",
    "stats",
    "task_state",
    "task_states",
    "trigger_arguments",
]

_XCOM_THREAD = ThreadPoolExecutor(1, thread_name_prefix="kpo-async xcom")
"""One thread, because a user's XCom backend need not be thread-safe. Not the one of `sync_to_async`, in which Airflow
looks for connections: hundreds of XComs would be in their way."""

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""The states of a task instance that no process works on any more."""

TRIGGERS_ARE_KILLED = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow calls a trigger's `on_kill` when a user ends its task (3.3). Before, it calls only `cleanup`."""

FAILING_IN_TRIGGERER_RETRIES = _version >= Version("3.3.1")
"""Whether a `TaskFailedEvent` leaves a task its retries (apache/airflow#71163)."""

SCHEDULER_LAG = 2.0
"""Seconds until the scheduler learns from its executor that a process has ended: two turns of its loop."""


def deferral_settles_after() -> float:
    """Return the seconds after a deferral in which the scheduler fails a task that is queued again.

    A worker's supervisor may notice the end of the deferring process one `[workers] min_heartbeat_interval` late:
    `ActivitySubprocess._monitor_subprocess` sleeps that long once the sockets are closed. If the task has been queued
    again by then, the scheduler takes that end for the new run's and fails the task ("executor reported that the task
    instance finished with state success, but the task instance's state attribute is queued", apache/airflow#66374).
    """
    return conf.getint("workers", "min_heartbeat_interval", fallback=5) + SCHEDULER_LAG


def pod_mutation_hook() -> Callable[[Any], None] | None:
    """Return the hook that a plugin or `airflow_local_settings` has for every pod (a `V1Pod`), None if none has."""
    hook: Callable[[Any], None] = settings.pod_mutation_hook
    if hasattr(settings, "get_policy_plugin_manager"):
        manager = settings.get_policy_plugin_manager()
    else:  # Airflow 3.1
        manager = settings.POLICY_PLUGIN_MANAGER
    implemented = bool(manager.hook.pod_mutation_hook.get_hookimpls())
    return hook if implemented or hook.__module__ != settings.__name__ else None


async def _is_undefined(request: Any) -> bool:
    """Whether Airflow's API says that what was not found is not defined.

    The SDK reports as not found, too, what it could not ask for. Raises `AirflowRuntimeError` then.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    # A worker of Airflow 3.1 has no asynchronous channel to its supervisor.
    if channel is None or _version < Version("3.2"):
        return True
    return isinstance(await channel.asend(request), ErrorResponse)


async def database_answers() -> None:
    """Return once Airflow's database answers. Raises `AirflowRuntimeError` as `get_connection` does.

    While it does not, Airflow's API reports Variables as not found.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetTaskStates

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if channel is not None and _version >= Version("3.2"):
        await answered(lambda: channel.asend(GetTaskStates(dag_id="-", task_ids=["-"], run_ids=["-"])))


async def get_connection(conn_id: str) -> Any:
    """Return the connection. Its class in the API server (Test button) is another one than in a task.

    Raises `AirflowNotFoundException`, and `AirflowRuntimeError` when Airflow has not answered for a minute: a
    connection that is not known for sure to be missing must not be replaced by a default.
    """
    from airflow.sdk.execution_time.comms import GetConnection

    async def get() -> Any:
        try:
            return await _find_connection(conn_id)
        except AirflowNotFoundException:
            if await _is_undefined(GetConnection(conn_id=conn_id)):
                raise
        return await _find_connection(conn_id)

    return await answered(get)


async def _find_connection(conn_id: str) -> Any:
    from airflow.sdk import BaseHook

    if _version >= Version("3.3"):
        return await BaseHook.aget_connection(conn_id)
    # A worker of Airflow 3.1 has no asynchronous channel to its supervisor, and reports a missing connection instead.
    # Airflow 3.2 tells the triggerer's supervisor synchronously what to mask, which fails unnoticed in any asyncio task
    # that is not a trigger's own: the password would be in the log.
    return await sync_to_async(BaseHook.get_connection)(conn_id)


async def get_extra(connection: Any) -> dict[str, Any]:
    """Return a connection's extra, and have Airflow mask its secrets in logs. Empty when it is not a JSON object."""
    if hasattr(connection, "aextra_dejson"):  # Airflow 3.3 and newer
        values = await connection.aextra_dejson()
    else:
        values = await sync_to_async(_masked_extra)(connection)
    return values if isinstance(values, dict) else {}


def _masked_extra(connection: Any) -> Any:
    from airflow.sdk.log import mask_secret

    values = connection.extra_dejson
    # In Airflow 3.1 a secrets backend returns the model, which masks them in the logs of the API server only.
    mask_secret(values)
    return values


async def get_variable(key: str) -> Any:
    """Return the variable, None if it is not defined. Raises `AirflowRuntimeError` as `get_connection` does."""
    from airflow.sdk import Variable
    from airflow.sdk.execution_time.comms import GetVariable

    async def get() -> Any:
        found = await sync_to_async(Variable.get)(key, default=None)
        if found is not None or await _is_undefined(GetVariable(key=key)):
            return found
        return await sync_to_async(Variable.get)(key, default=None)

    return await answered(get)


async def task_state(task_instance: Any) -> str | None:
    """Return the current state of a trigger's task instance, None when it has none or is gone."""
    states = await task_states([task_instance])
    return states[task_instance.id]


async def task_states(task_instances: Sequence[Any]) -> dict[Any, str | None]:
    """Return the current states of triggers' task instances by their ids, None for one that has none or is gone.

    All must be of one DAG run, and of one task if that is mapped. For triggers: the request uses no thread, so it is
    made even when other code has filled the loop's thread pool.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetTaskStates

    first = task_instances[0]
    request = GetTaskStates(
        dag_id=first.dag_id,
        task_ids=sorted({task_instance.task_id for task_instance in task_instances}),
        run_ids=[first.run_id],
        # Without an index the answer has all those of a mapped task.
        map_index=first.map_index if len(task_instances) == 1 else None,
    )
    answer: Any = await answered(lambda: task_runner.SUPERVISOR_COMMS.asend(request))
    states = answer.task_states.get(first.run_id, {})
    return {task_instance.id: _text(states.get(_key(task_instance))) for task_instance in task_instances}


def is_mapped(task_instance: Any) -> bool:
    """Whether a task instance is one of a mapped task's."""
    return task_instance.map_index is not None and task_instance.map_index >= 0


def _key(task_instance: Any) -> str:
    """Return the key that an answer has for a task instance."""
    task_id: str = task_instance.task_id
    return f"{task_id}_{task_instance.map_index}" if is_mapped(task_instance) else task_id


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))


def in_triggerer() -> bool:
    """Whether this process runs a triggerer's triggers, as opposed to `dag.test()`, which runs one in a task."""
    from airflow.sdk.execution_time import task_runner

    channel = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return type(channel).__module__ == TRIGGERER_MODULE


def log_path(task_instance: Any) -> str:
    """Return the path of the file that a worker writes for a try, relative to the log folder."""
    return log_path_renderer()(ti=task_instance)


def log_path_renderer() -> Callable[..., str]:
    """Return what renders `log_path`. Its template is compiled once in a process."""
    from airflow.utils.helpers import log_filename_template_renderer

    return log_filename_template_renderer()


def remote_logging() -> bool:
    """Whether task logs are uploaded."""
    if conf.getboolean("logging", "remote_logging", fallback=False):
        return True
    from airflow.sdk import log

    # A `logging_config_class` may upload without that option. Airflow 3.1 and 3.2 have it under other names.
    load = getattr(log, "load_remote_log_handler", None)
    return load is not None and load() is not None


def stats() -> Any:
    """Return what publishes Airflow's metrics in this process: an object with `incr`, `timing` and `gauge`.

    Newer Airflows have two, configured alike: the SDK's, which `airflow.sdk.serde` initializes, and the components'.
    """
    for name in ("airflow.sdk._shared.observability.metrics.stats", "airflow._shared.observability.metrics.stats"):
        module = sys.modules.get(name)
        if getattr(module, "_factory", None) is not None:
            return module
    try:
        return import_module("airflow.observability.stats").Stats
    except ModuleNotFoundError:  # Airflow 3.1
        return import_module("airflow.stats").Stats


def load_lazy(value: Any) -> Any:
    """Return `value` with lists for the results of mapped tasks, which Airflow reads lazily, one by one."""
    kind = type(value)
    if kind is dict:
        return {key: load_lazy(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(load_lazy(item) for item in value)
    if isinstance(value, Sequence) and kind.__module__.startswith("airflow."):
        return [load_lazy(item) for item in value]
    return value


def masked(text: str) -> str:
    """Return `text` with `***` for the secrets that Airflow masks in the logs of this process."""
    for masker in _maskers():
        text = str(masker.redact(text))
    return text


@cache
def _maskers() -> list[Any]:
    """Return Airflow's maskers. An API server has two: one for what Airflow itself reads, one for its SDK."""
    found = []
    for name in ("airflow._shared.secrets_masker", "airflow.sdk._shared.secrets_masker"):
        with suppress(ModuleNotFoundError):
            found.append(import_module(name))
    return found or [import_module("airflow.sdk.execution_time.secrets_masker")]  # Airflow 3.1


async def push_xcom(task_instance: Any, key: str, value: Any, mapped_length: int | None = None) -> None:
    """Set an XCom from a trigger, with the configured XCom backend.

    `mapped_length` is the number of instances of the tasks that are mapped over the value, if there are such tasks.
    An end event's `xcoms` bypass the backend and are stored as JSON inside of JSON: `xcom_pull` returns quotes and all.
    """
    from airflow.sdk.execution_time.xcom import XCom

    address = _address(task_instance)
    await _in_thread(XCom.set, key=key, value=value, **address, _mapped_length=mapped_length)


async def pull_xcom(task_instance: Any, key: str) -> Any:
    """Return the XCom of the trigger's own task with this key, None when there is none."""
    from airflow.sdk.execution_time.xcom import XCom

    return await _in_thread(XCom.get_one, key=key, **_address(task_instance))


async def delete_xcom(task_instance: Any, key: str) -> Any:
    """Delete the XCom of the trigger's own task with this key, and return what it was; None when there was none."""
    from airflow.sdk.execution_time.xcom import XCom

    value = await pull_xcom(task_instance, key)
    if value is not None:
        await _in_thread(XCom.delete, key=key, **_address(task_instance))
    return value


async def _in_thread(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a synchronous function of Airflow's that is about an XCom. If the caller is cancelled, the call goes on.

    Not with `sync_to_async`: it drops a cancellation's message, by which a trigger learns that its user ended the task.
    """
    loop, call = asyncio.get_running_loop(), partial(function, **arguments)
    answer = answered(lambda: loop.run_in_executor(_XCOM_THREAD, contextvars.copy_context().run, call))
    return await asyncio.shield(asyncio.create_task(answer, name=f"kpo-async {function.__qualname__}"))


async def get_xcom(dag_id: str, run_id: str, task_id: str, key: str, map_index: int = -1) -> Any:
    """Return the XCom of a task instance, None when there is none. The `map_index` is -1 if it is not mapped."""
    from airflow.sdk.execution_time.xcom import XCom

    return await _in_thread(XCom.get_one, key=key, dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)


async def count_instances(dag_id: str, run_id: str, task_id: str) -> int:
    """Return the number of task instances of a task in a run, for triggers."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import GetTICount

    request = GetTICount(dag_id=dag_id, run_ids=[run_id], task_ids=[task_id])
    answer: Any = await answered(lambda: task_runner.SUPERVISOR_COMMS.asend(request))
    return int(answer.count)


def _address(task_instance: Any) -> dict[str, Any]:
    """Return the arguments that address a task instance's XComs."""
    return {
        "dag_id": task_instance.dag_id,
        "task_id": task_instance.task_id,
        "run_id": task_instance.run_id,
        "map_index": -1 if task_instance.map_index is None else task_instance.map_index,
    }


def trigger_arguments(row: Any) -> dict[str, Any]:
    """Return the arguments in a row of Airflow's table of triggers, as the triggerer passes them to the trigger."""
    try:
        decoders = import_module("airflow.serialization.decoders")
    except ModuleNotFoundError:  # Airflow 3.1
        decoders = import_module("airflow.serialization.serialized_objects")
    decode = decoders.smart_decode_trigger_kwargs
    return {name: decode(value) for name, value in row.kwargs.items()}
