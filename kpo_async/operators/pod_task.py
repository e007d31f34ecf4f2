"""Build the `PodTask` and the `Owner` of an operator: for the worker itself, and as it is sent to the triggerer.

Callables are sent as import paths. If one of them has none, the worker logs so once, shows the logs and calls the
callbacks after the task has resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from kpo_async.callbacks import CallbackEvent, Callbacks
from kpo_async.exceptions import ImportPathError
from kpo_async.hooks.installation import installation_id
from kpo_async.import_path import to_import_path
from kpo_async.json_types import Json
from kpo_async.lifecycle import Owner, TaskRecord
from kpo_async.logs.plan import LogPlan
from kpo_async.operators import attributes
from kpo_async.operators.base import PodOperatorBase
from kpo_async.operators.manifest import base_container_name, cluster_ref, identity
from kpo_async.operators.start_from_trigger import failure_needs_worker, is_mapped_over
from kpo_async.pod.again import MemoryGrowth
from kpo_async.pod_task import PodTask

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


async def owner_of(operator: PodOperatorBase, context: Context) -> Owner:
    """Return the try of `context` as the owner of its pod. Raises `ConfigError` for an impossible installation id."""
    task = identity(context)
    record = TaskRecord.of_try(
        task,
        max_tries=getattr(context["ti"], "max_tries", 0),
        base_container=base_container_name(operator),
        ignore_companions=_names(operator.ignore_companions, default=[]) or False,
        deferrable=bool(operator.deferrable),
        on_finish_action=operator.on_finish_action,
        on_kill_action=operator.on_kill_action,
        grace_period=_grace_period(operator),
        logs=None if operator.log_formatter else _log_plan(operator),
        **_masked(operator),
    )
    return Owner(task, record, await installation_id(), reattach=operator.durable)


def pod_task_of(
    operator: PodOperatorBase,
    context: Context,
    pod: Json,
    *,
    deadline: float | None,
    attempt: int = 1,
    disruptions: int = 0,
) -> PodTask:
    """Return what a worker needs to follow the `pod` of the try in `context` to its end.

    `deadline` is in seconds since the epoch; `attempt` and `disruptions` are the pod's (`pod.again.attempt_of`).

    Values are converted to the types that cross: users write 1 for True, and 30.0 for a number of seconds.
    """
    metadata = pod["metadata"]
    record = TaskRecord.of_pod(pod)
    return PodTask(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        owner=identity(context).owner,
        cluster=cluster_ref(operator),
        base_container=base_container_name(operator),
        logs=_log_plan(operator),
        xcom=operator.xcom_transport if operator.do_xcom_push else None,
        schedule_timeout=operator.schedule_timeout_seconds,
        startup_timeout=operator.startup_timeout_seconds,
        deadline=deadline,
        poll_interval=operator.poll_interval,
        on_finish_action=operator.on_finish_action,
        on_kill_action=operator.on_kill_action,
        grace_period=_grace_period(operator),
        skip_on_exit_code=_exit_codes(operator.skip_on_exit_code),
        companions=record.companions if record is not None else [],
        companion_grace=None if operator.companion_grace_seconds is None else float(operator.companion_grace_seconds),
        ignore_companions=_names(operator.ignore_companions, default=[]),
        multiple_outputs=bool(operator.multiple_outputs),
        mapped_over=bool(operator.end_from_trigger)
        and is_mapped_over(operator)
        and not getattr(context["ti"], "is_mapped", False),
        spec_on_failure=bool(operator.log_pod_spec_on_failure),
        events_on_failure=bool(operator.log_events_on_failure),
        events_on_startup=bool(operator.log_events_on_startup),
        **_masked(operator),
        identity=identity(context) if operator.retry_on_disruption or operator.on_oom else None,
        attempt=attempt,
        disruptions=disruptions,
        retry_on_disruption=operator.retry_on_disruption or 0,
        on_oom=msgspec.convert(dict(operator.on_oom), MemoryGrowth) if operator.on_oom else None,
        user_event=dict(operator.trigger_kwargs or {}),
    )


def for_deferral(operator: PodOperatorBase, task: PodTask, deferred_at: float) -> PodTask:
    """Return `task` with what only a triggerer needs, and without what a triggerer cannot import."""
    ends_in_triggerer = bool(operator.end_from_trigger) and not _needs_worker_to_end(operator)
    if operator.cluster_hook is not None:
        path, arguments = to_import_path(operator.cluster_hook), dict(operator.cluster_hook_kwargs)
        task = replace(task, cluster_hook=path, cluster_hook_kwargs=arguments)
    task = replace(
        task,
        deferred_at=deferred_at,
        end_from_trigger=ends_in_triggerer,
        worker_ends_failure=ends_in_triggerer
        and failure_needs_worker(lambda name: getattr(operator, name, None), operator.get_dag()),
    )
    try:
        callbacks, formatter = _import_paths(operator)
    except ImportPathError as error:
        log.warning("The worker will show the logs and call the callbacks when the pod has ended: %s", error)
        # So does a worker create the pod again, because only that one shows the logs of all of them.
        return replace(task, logs=None, end_from_trigger=False, identity=None)
    logs = replace(task.logs, formatter=formatter) if task.logs else None
    return replace(task, callbacks=callbacks, logs=logs)


def callables_are_local(operator: PodOperatorBase) -> bool:
    """Whether the triggerer got no callbacks, because it cannot import all of the user's callables."""
    try:
        _import_paths(operator)
    except ImportPathError:
        return True
    return False


def _import_paths(operator: PodOperatorBase) -> tuple[list[str], str | None]:
    """Return the import paths of callbacks and log formatter. Raises `ImportPathError` when one of them has none."""
    classes = callback_classes(operator)
    callbacks = [to_import_path(callback) for callback in classes]
    if Callbacks(classes).need_worker(CallbackEvent.PROGRESS):
        raise ImportPathError("a progress_callback takes `operator` or `context`, which a triggerer does not have")
    return callbacks, to_import_path(operator.log_formatter) if operator.log_formatter else None


def callback_classes(operator: PodOperatorBase) -> list[Any]:
    """Return `callbacks` as a list, followed by the function of `progress_callback`."""
    given = operator.callbacks or []
    found = given if isinstance(given, (list, tuple)) else [given]
    return [*found, operator.progress_callback] if operator.progress_callback else [*found]


def _masked(operator: PodOperatorBase) -> dict[str, Any]:
    """Return whose secrets the pod may have been given, as the fields of a `PodTask` and a `TaskRecord`."""
    read = operator.templates_read
    return {
        "masked_connections": sorted(read.connections) if read else [],
        "masked_variables": sorted(read.variables) if read else [],
    }


def _grace_period(operator: PodOperatorBase) -> int | None:
    given = operator.termination_grace_period
    return None if given is None else int(given)


def _exit_codes(container: Container[int]) -> list[int]:
    """Return the exit codes, 0 to 255, that are in the container."""
    return [code for code in range(256) if code in container]


def _log_plan(operator: PodOperatorBase) -> LogPlan | None:
    if not operator.get_logs and not operator.init_container_logs:
        return None
    chosen, base = operator.container_logs or None, [base_container_name(operator)]
    return LogPlan(
        containers=_names(chosen, default=base) if operator.get_logs else [],
        init_containers=_names(operator.init_container_logs, default=[]),
        prefix=bool(operator.container_name_log_prefix_enabled),
    )


def _names(choice: Iterable[str] | str | bool | None, *, default: list[str]) -> bool | list[str]:
    if choice is None or choice is False:
        return default
    if choice is True:
        return True
    return [choice] if isinstance(choice, str) else list(choice)


def _needs_worker_to_end(operator: PodOperatorBase) -> bool:
    """Whether the end of the task includes something that only a worker does; logs what."""
    callbacks = Callbacks(callback_classes(operator))
    reasons = [name.removeprefix("_") for name in _OF_WORKER if getattr(operator, name, None)]
    reasons += [name for name in _METHODS_OF_WORKER if attributes.is_users_own(type(operator), name)]
    if callbacks.wants(CallbackEvent.OPERATOR_RESUMING):
        reasons.append(CallbackEvent.OPERATOR_RESUMING.value)
    if callbacks.need_worker(*CallbackEvent):
        reasons.append("a callback that takes the operator or the context")
    if reasons:
        log.warning("A worker ends this task in spite of end_from_trigger: it has %s", ", ".join(reasons))
    return bool(reasons)


_OF_WORKER = (
    *("outlets", "on_success_callback", "on_skipped_callback", "_post_execute_hook", "map_index_template"),
    "returns_dag_result",
)
"""Attributes that Airflow 3.3 heeds only where a worker ends the task."""
_METHODS_OF_WORKER = ("trigger_reentry", "resume_execution", "post_execute", "extract_xcom")
"""Methods that a worker calls on the way to the end."""
