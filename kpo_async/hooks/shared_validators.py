"""Have the tasks that a process forks share validators, instead of building them anew in each.

Airflow builds pydantic's validators of the messages between a task and its supervisor in each task's process, and one
more for each of its template fields: 5 ms of CPU for a task, twice if it is deferred. A validator has no state, so what
is built before the fork serves all.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time import comms, task_runner
from pydantic import JsonValue, TypeAdapter


class SharedValidators:
    """Stands for `pydantic.TypeAdapter` and returns the same one each time for some types."""

    def __init__(self, *types: Any) -> None:
        # By identity, because not every type can be hashed. The types are kept, so that no other gets their ids.
        self._kept = {id(kind): (kind, TypeAdapter(kind)) for kind in types}

    def __call__(self, kind: Any, **options: Any) -> TypeAdapter[Any]:
        """Return a validator of `kind`."""
        kept = None if options else self._kept.get(id(kind))
        return TypeAdapter(kind, **options) if kept is None else kept[1]

    def __getitem__(self, kind: Any) -> Any:
        """Return what annotations say."""
        return TypeAdapter[kind]


def install() -> None:
    """Share validators between the tasks that this process forks. Modules without them are left as they are."""
    shared = SharedValidators(comms.ToTask, JsonValue)
    for module in (comms, task_runner):
        if vars(module).get("TypeAdapter") is TypeAdapter:
            vars(module)["TypeAdapter"] = shared
