"""Deprecated parameters mapped to their replacements, and methods of the incumbent that are never called here.

Each deprecated parameter warns once, at DAG parse.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TypeVar

from kpo_async.compat import StrEnum
from kpo_async.exceptions import ManifestError
from kpo_async.pod_task import OnFinishAction

Action = TypeVar("Action", bound=StrEnum)

_CLASS_STATEMENT = 5
"""Frames from `warn_of_overrides` to the statement: `__init_subclass__`, then `__new__` of two metaclasses."""

_STORY = "the operator does so itself. Use callbacks, or override execute or trigger_reentry and call super()"
_CLIENT = "use self.client, the CoreV1Api of the task's cluster, or `async with self.hook.connect()`"
_ISTIO = "no sidecar is killed, because a pod's end is that of its base container. Declare Istio's as a native sidecar"
_ADOPTION = "pods are found by their name and uid; a lost try's is adopted (parameter durable)"
MISSING: Mapping[str, str] = {
    **dict.fromkeys(("await_init_containers_completion", "await_pod_completion", "await_pod_start"), _STORY),
    **dict.fromkeys(("cleanup", "invoke_defer_method", "post_complete_action", "process_pod_deletion"), _STORY),
    **dict.fromkeys(("MAX_REDEFER_ATTEMPTS", "POST_TERMINATION_TIMEOUT"), "nothing here is bounded by it"),
    **dict.fromkeys(("ISTIO_CONTAINER_NAME", "KILL_ISTIO_PROXY_SUCCESS_MSG"), _ISTIO),
    **dict.fromkeys(("is_istio_enabled", "kill_istio_sidecar"), _ISTIO),
    **dict.fromkeys(("find_pod", "get_or_create_pod", "log_matching_pod", "process_duplicate_label_pods"), _ADOPTION),
    **dict.fromkeys(("POD_CHECKED_KEY", "patch_already_checked"), _ADOPTION),
    "convert_config_file_to_dict": "a kubeconfig is read where it is used, by its path (config_file)",
    "pod_manager": _CLIENT,
}
"""Public names of the incumbent's operator that this one does not have -> what to do instead."""

OVERRIDES_NEVER_CALLED = frozenset({*filter(str.islower, MISSING), "client", "hook"})
"""Methods that subclasses of the incumbent's operator override, and that kpo_async never calls."""


def warn_of_overrides(kind: type) -> None:
    """Warn of overrides that only the incumbent calls, at the line that defines the class."""
    for name in sorted(OVERRIDES_NEVER_CALLED & vars(kind).keys()):
        warnings.warn(
            f"{kind.__name__}.{name} is never called: kpo_async's operator works without it. "
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
