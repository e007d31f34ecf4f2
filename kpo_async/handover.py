"""Deprecated: `OnFinishAction` and `OnKillAction` are in `kpo_async.pod_task`."""

from __future__ import annotations

import warnings
from typing import Any

from kpo_async import pod_task


def __getattr__(name: str) -> Any:
    if name not in ("OnFinishAction", "OnKillAction"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"kpo_async.handover.{name} is deprecated: import it from kpo_async.pod_task"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return getattr(pod_task, name)
