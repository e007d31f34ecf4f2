"""Parameters in the forms of former days, read as what they mean today. Old names warn once, at DAG parse."""

from __future__ import annotations

import warnings
from typing import TypeVar

from kpo_async.compat import StrEnum
from kpo_async.exceptions import ManifestError
from kpo_async.handover import OnFinishAction

Action = TypeVar("Action", bound=StrEnum)


def resolve_action(kind: type[Action], parameter: str, value: str) -> Action:
    """`value`, a string or another library's enum of strings, as our own. Raises `ManifestError` for no action."""
    if isinstance(value, kind):
        return value
    try:
        return kind(getattr(value, "value", value))
    except ValueError:
        raise ManifestError(f"{parameter} is {value!r}: give one of {', '.join(kind)}") from None


def resolve_finish_action(on_finish_action: str, is_delete_operator_pod: bool | None) -> OnFinishAction:
    """`on_finish_action`, unless the old boolean was given. Raises `ManifestError` for a word that is no action."""
    if is_delete_operator_pod is None:
        return resolve_action(OnFinishAction, "on_finish_action", on_finish_action)
    action = OnFinishAction.DELETE_POD if is_delete_operator_pod else OnFinishAction.KEEP_POD
    warnings.warn(
        f"is_delete_operator_pod is deprecated: use on_finish_action={action.value!r}", DeprecationWarning, stacklevel=4
    )
    return action


def resolve_reattach(reattach_on_restart: bool | None, durable: bool | None) -> bool:
    """Whether a new try takes over a pod that an earlier try left running; True unless one of the names says no."""
    if reattach_on_restart is not None:
        warnings.warn("reattach_on_restart is deprecated: use durable", DeprecationWarning, stacklevel=4)
    given = durable if durable is not None else reattach_on_restart
    return True if given is None else given
