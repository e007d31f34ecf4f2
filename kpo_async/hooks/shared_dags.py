"""Have a triggerer read, send and deserialize each DAG once, instead of once for every trigger.

Airflow 3.3 hands the whole serialized DAG of a task that starts in the triggerer to its trigger's process. The main
process reads it from the database for every deferred task, and sends a copy with each trigger: a message with many
triggers is megabytes, for which the event loop of the triggers stands still. They deserialize it on that loop, too. All
only read it. So the main process reads it once in a turn of its loop, a message has each DAG once, and a DAG that has
not changed is the same object for all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
from typing import Any

import msgspec
from airflow.serialization import serialized_objects

from kpo_async.hooks.triggerer import triggerer_module

MOST = 32
"""DAGs that are kept, the least recently used of which goes."""
SAME_AS = "kpo_async: DAG of trigger"
"""Key of what stands for a DAG that another trigger of the same message has: that trigger's id."""


class SharedDags:
    """Stands for a function that deserializes DAGs, and calls it only for one that it has not got."""

    def __init__(self, deserialize: Callable[[Any], Any]) -> None:
        self._deserialize = deserialize
        self._kept: OrderedDict[str, tuple[bytes, Any]] = OrderedDict()
        self._last: tuple[Any, Any] = None, None
        """What was deserialized last: hundreds of triggers that arrive together have it."""

    def __call__(self, data: Any) -> Any:
        """Return the DAG. Its versions are told apart by all that is serialized."""
        if data is not self._last[0]:
            self._last = data, self._find(data)
        return self._last[1]

    def _find(self, data: Any) -> Any:
        try:
            name, encoded = data["dag"]["dag_id"], _encoded(data)
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
    module: Any = triggerer_module()
    runner: Any = getattr(module, "TriggerRunner", None)
    fields = getattr(getattr(getattr(module, "workloads", None), "RunTrigger", None), "model_fields", ())
    if "dag_data" in fields and hasattr(runner, "asend") and not hasattr(runner.asend, "shares_dags"):
        module.TriggerRunnerSupervisor.send_msg = sending_dags_once(module.TriggerRunnerSupervisor.send_msg)
        runner.asend = receiving_dags_once(runner.asend)
    bag: Any = getattr(module, "DBDagBag", None)
    if hasattr(bag, "get_serialized_dag_model_for_run") and not hasattr(bag, "reads_once"):
        module.DBDagBag = reading_once(bag)


def sending_dags_once(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that sends a message with each DAG once."""

    @wraps(send)
    def send_once(self: Any, msg: Any, *args: Any, **kwargs: Any) -> Any:
        abbreviate(getattr(msg, "to_create", ()))
        return send(self, msg, *args, **kwargs)

    return send_once


def receiving_dags_once(receive: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a method that receives such a message, and gives each trigger its DAG."""

    @wraps(receive)
    async def receive_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await receive(self, *args, **kwargs)
        complete(getattr(answer, "to_create", ()))
        return answer

    receive_once.shares_dags = True  # type: ignore[attr-defined]
    return receive_once


def abbreviate(triggers: Iterable[Any]) -> None:
    """Leave each DAG with the first of the triggers that have it, whose id the others get in its place."""
    having: dict[bytes, int] = {}
    for trigger in triggers:
        if trigger.dag_data:
            try:
                first = having.setdefault(_encoded(trigger.dag_data), trigger.id)
            except (TypeError, OverflowError):  # an integer of more than 64 bits
                continue
            if first != trigger.id:
                trigger.dag_data = {SAME_AS: first}


def complete(triggers: Iterable[Any]) -> None:
    """Give each trigger its DAG again. All that have the same one get the same object."""
    dags = {trigger.id: trigger.dag_data for trigger in triggers}
    for trigger in triggers:
        if trigger.dag_data and SAME_AS in trigger.dag_data:
            trigger.dag_data = dags[trigger.dag_data[SAME_AS]]


def reading_once(bag: Any) -> Any:
    """Return a class of Airflow's that reads the DAG of a run once. It lives for one turn of the main loop."""

    class DagBagOfTurn(bag):  # type: ignore[misc]
        reads_once = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._models: dict[Any, Any] = {}

        def get_serialized_dag_model_for_run(self, dag_run: Any, **kwargs: Any) -> Any:
            if dag_run.id not in self._models:
                self._models[dag_run.id] = super().get_serialized_dag_model_for_run(dag_run, **kwargs)
            return self._models[dag_run.id]

    return DagBagOfTurn


def _encoded(data: Any) -> bytes:
    # Not as dicts: the order of what a task is mapped over says which argument varies fastest.
    return msgspec.msgpack.encode(data)
