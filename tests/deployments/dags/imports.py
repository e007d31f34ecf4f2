"""A deferred task whose two processes say in its log what they had to import."""

from __future__ import annotations

import atexit
import sys

IN_PARENT = set(sys.modules)
"""Also what Airflow imports before it parses this file, which is its own affair."""

from airflow.sdk import dag, get_parsing_context  # noqa: E402

from kpo_async.operators.pod import KubernetesPodOperator  # noqa: E402


def _say_what_was_imported() -> None:
    found = {name.partition(".")[0] for name in set(sys.modules) - IN_PARENT if not name.startswith("unusual_prefix")}
    print("Imported by this process:", sorted(found), flush=True)


if get_parsing_context().task_id:
    atexit.register(_say_what_was_imported)


@dag(schedule=None)
def imports() -> None:
    KubernetesPodOperator(
        task_id="deferred",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        arguments=["echo 1 > /airflow/xcom/return.json"],
        do_xcom_push=True,
        deferrable=True,
    )


imports()
