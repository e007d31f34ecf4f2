"""What a DAG's size costs a triggerer for each task that starts there: `python -m scaling.dags`, JSON on stdout.

Airflow hands the whole serialized DAG to the triggerer with each such trigger, and deserializes it on the event loop.
`hooks.shared_dags` has it recognize a DAG that it has deserialized before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from kpo_async.hooks.shared_dags import SharedDags
from kpo_async.operators.pod import KubernetesPodOperator

SIZES = (1, 10, 50, 100, 200, 500, 1000)
COMMON = {"image": "busybox:1.36", "deferrable": True, "start_from_trigger": True, "end_from_trigger": True}


def tasks(count: int) -> DAG:
    """Return a DAG of `count` tasks."""
    with DAG("size", schedule=None) as dag:
        for number in range(count):
            KubernetesPodOperator(task_id=f"task_{number}", arguments=["echo", "{{ ds }}"], **COMMON)
    return dag


def mapped(count: int) -> DAG:
    """Return a DAG of one mapped task with `count` map indexes."""
    with DAG("size", schedule=None) as dag:
        words = [["echo", str(number)] for number in range(count)]
        KubernetesPodOperator.partial(task_id="task", **COMMON).expand(arguments=words)
    return dag


def measure(dag: DAG) -> dict[str, float]:
    """Return the bytes of a serialized DAG, and the seconds of CPU that reading it takes: the best of several."""
    encoded = DagSerialization.to_dict(dag)
    shared = SharedDags(DagSerialization.from_dict)
    shared(encoded)
    return {
        "bytes": len(json.dumps(encoded)),
        "seconds": _best(lambda: DagSerialization.from_dict(encoded)),
        "shared": _best(lambda: shared(encoded)),
    }


def _best(call: Callable[[], object]) -> float:
    spent = []
    for _ in range(5):
        began = time.process_time()
        call()
        spent.append(time.process_time() - began)
    return min(spent)


if __name__ == "__main__":
    shapes = {f"{count} tasks" if count > 1 else "1 task": measure(tasks(count)) for count in SIZES}
    print(json.dumps({**shapes, "1 mapped task of 1000": measure(mapped(1000))}))
