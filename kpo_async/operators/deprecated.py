"""Deprecated parameters mapped to their replacements, and methods of the incumbent that are never called here.

Each deprecated parameter warns once, at DAG parse.
"""

from __future__ import annotations

import warnings
from typing import TypeVar

from kpo_async.compat import StrEnum
from kpo_async.exceptions import ManifestError
from kpo_async.pod_task import OnFinishAction

Action = TypeVar("Action", bound=StrEnum)

_CLASS_STATEMENT = 5
"""Frames from `warn_of_overrides` to the statement: `__init_subclass__`, then `__new__` of two metaclasses."""

OVERRIDES_NEVER_CALLED = frozenset(
    {
        "await_init_containers_completion",
        "await_pod_completion",
        "await_pod_start",
        "cleanup",
        "client",
        "convert_config_file_to_dict",
        "execute_async",
        "execute_sync",
        "extract_xcom",
        "find_pod",
        "get_or_create_pod",
        "hook",
        "invoke_defer_method",
        "kill_istio_sidecar",
        "patch_already_checked",
        "pod_manager",
        "post_complete_action",
        "process_duplicate_label_pods",
        "process_pod_deletion",
    }
)
"""Methods of the incumbent's operator that subclasses override there, and that kpo_async does not have."""


def warn_of_overrides(kind: type) -> None:
    """Warn of overrides that only the incumbent calls, at the line that defines the class."""
    for name in sorted(OVERRIDES_NEVER_CALLED & vars(kind).keys()):
        warnings.warn(
            f"{kind.__name__}.{name} is never called: kpo_async has no such method of the incumbent's operator. "
            "Use callbacks, or override build_pod_request_obj, execute, trigger_reentry or on_kill",
            UserWarning,
            stacklevel=_CLASS_STATEMENT,
        )


def resolve_action(kind: type[Action], parameter: str, value: str) -> Action:
    """Return the member of `kind` for a string or a member of the incumbent's enum. Raises `ManifestError`."""
    if isinstance(value, kind):
        return value
    try:
        return kind(getattr(value, "value", value))
    except ValueError:
        raise ManifestError(f"{parameter} is {value!r}: give one of {', '.join(kind)}") from None


def resolve_finish_action(on_finish_action: str, is_delete_operator_pod: bool | None) -> OnFinishAction:
    """Return `on_finish_action`, or what the deprecated boolean means. Raises `ManifestError` for an unknown action."""
    if is_delete_operator_pod is None:
        return resolve_action(OnFinishAction, "on_finish_action", on_finish_action)
    action = OnFinishAction.DELETE_POD if is_delete_operator_pod else OnFinishAction.KEEP_POD
    warnings.warn(
        f"is_delete_operator_pod is deprecated: use on_finish_action={action.value!r}", DeprecationWarning, stacklevel=4
    )
    return action


def resolve_durable(reattach_on_restart: bool | None, durable: bool | None) -> bool:
    """Return whether a new try adopts a pod that an earlier try left running: `durable` or its old name, else True."""
    if reattach_on_restart is not None:
        warnings.warn("reattach_on_restart is deprecated: use durable", DeprecationWarning, stacklevel=4)
    given = durable if durable is not None else reattach_on_restart
    return True if given is None else given
