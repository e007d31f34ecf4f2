"""Results of each size: a small one comes with the watch, a larger one through the sidecar's log."""

from __future__ import annotations

from airflow.sdk import dag, task

from kpo_async.operators.pod import KubernetesPodOperator

# Writes a JSON text of so many characters.
SCRIPT = """printf '"%s"' "$(head -c "$SIZE" /dev/zero | tr '\\0' x)" > /airflow/xcom/return.json"""

SIZES = {
    "small": 100,  # up to 4 KiB: in the sidecar's termination message
    "medium": 100_000,  # up to 256 K characters: in its log, and then in the trigger's event
    "large": 1_000_000,  # more: a worker reads it again
}


@dag(schedule=None, tags=["kpo-async"])
def xcoms() -> None:
    @task
    def measure(texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    results = [
        KubernetesPodOperator(
            task_id=name,
            image="busybox:1.36",
            cmds=["sh", "-c", SCRIPT],
            env_vars={"SIZE": str(size)},
            do_xcom_push=True,
            deferrable=True,
        ).output
        for name, size in SIZES.items()
    ]
    measure(results)


xcoms()
