"""The same pod twice: one task waits in the triggerer, the other in a worker slot. One word differs."""

from __future__ import annotations

from airflow.sdk import dag

from kpo_async.operators.pod import KubernetesPodOperator


@dag(schedule=None, tags=["kpo-async"])
def side_by_side() -> None:
    for task_id, deferrable in (("in_the_triggerer", True), ("in_a_worker", False)):
        KubernetesPodOperator(
            task_id=task_id,
            image="busybox:1.36",
            cmds=["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; sleep 1; done"],
            # In the triggerer: no slot held while it runs. In a worker: a slot held, and no triggerer needed.
            deferrable=deferrable,
        )


side_by_side()
