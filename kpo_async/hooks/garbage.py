"""Keep Python's garbage collector away from what a triggerer has for good.

A full collection looks at each object of a process. Most are of imported modules and of the execution API that a
triggerer's main process builds for itself, and stay. While hundreds of triggers start, full collections come every few
seconds and take 0.3 s or more: the event loop of the triggers stands still, and so does the main process, which no
longer reads their logs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import Any

from kpo_async.hooks.triggerer import triggerer_module

RARELY = 50
"""Collections of the middle generation before a full one, 10 by default. A trigger leaves few cycles."""


def leave_alone() -> None:
    """Have the collector ignore all objects that there are now. It collects those that are garbage a last time."""
    gc.collect()
    gc.freeze()


def install() -> None:
    """Do so in this process, a triggerer's, once it has built its API, and have full collections come rarely in it.

    What is imported before it forks is left alone by `kpo_async.preload`.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, RARELY)
    supervisor: Any = getattr(triggerer_module(), "TriggerRunnerSupervisor", None)
    if hasattr(supervisor, "make_client") and not hasattr(supervisor.make_client, "is_left_alone"):
        supervisor.make_client = left_alone(supervisor.make_client)


def left_alone(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that does as `make`, and keeps the collector away from what it has made."""

    @wraps(make)
    def make_and_leave_alone(self: Any) -> Any:
        made = make(self)
        leave_alone()
        return made

    make_and_leave_alone.is_left_alone = True  # type: ignore[attr-defined]
    return make_and_leave_alone
