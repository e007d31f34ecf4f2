"""Have a triggerer deserialize each DAG once, instead of once for every trigger.

Airflow 3.3 hands the whole serialized DAG of a task that starts in the triggerer to its trigger's process, which
deserializes it on the event loop, and the triggerer's main process deserializes it for every deferred task. Both only
read it: a DAG that has not changed can be the same object for all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from airflow.serialization import serialized_objects

MOST = 32
"""DAGs that are kept, the least recently used of which goes."""


class SharedDags:
    """Stands for a function that deserializes DAGs, and calls it only for one that it has not got."""

    def __init__(self, deserialize: Callable[[Any], Any]) -> None:
        self._deserialize = deserialize
        self._kept: OrderedDict[str, tuple[bytes, Any]] = OrderedDict()

    def __call__(self, data: Any) -> Any:
        """Return the DAG. Its versions are told apart by all that is serialized."""
        try:
            # Not as dicts: the order of what a task is mapped over says which argument varies fastest.
            name, encoded = data["dag"]["dag_id"], msgspec.msgpack.encode(data)
        except (KeyError, TypeError, OverflowError):  # no DAG, or an integer of more than 64 bits
            return self._deserialize(data)
        if name in self._kept and self._kept[name][0] == encoded:
            self._kept.move_to_end(name)
            return self._kept[name][1]
        dag = self._deserialize(data)
        self._kept[name] = encoded, dag
        self._kept.move_to_end(name)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return dag


def install() -> None:
    """Share DAGs in this process, a triggerer's, and in those that it forks. Airflow 3.1 does without."""
    shared: Any = getattr(serialized_objects, "DagSerialization", None)
    if shared is not None and not isinstance(vars(shared)["from_dict"], SharedDags):
        shared.from_dict = SharedDags(shared.from_dict)
