"""A triggerer's process for `test_freeze.py`: one trigger, and an exchange with its supervisor every 0.2 s.

    python -m tests.triggers.freezable ROW

ROW is the trigger's `PodTask` and its try, as JSON. The task's log goes to standard output. When a line comes in on
standard input, the trigger has moved to another triggerer, and the third exchange from then on says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import select
import sys

from airflow.sdk.execution_time import task_runner

from kpo_async.pod.names import TaskIdentity
from kpo_async.pod_task import PodTask
from tests.triggers.triggerer import Supervisor, Triggerer, pods_finished

EVERY = 0.2
LATE = 3
"""Exchanges until a supervisor that was frozen, too, says that a trigger has moved."""


async def main(row: str) -> None:
    stored = json.loads(row)
    supervisor = task_runner.SUPERVISOR_COMMS = Supervisor()  # type: ignore[assignment]
    triggerer = Triggerer(PodTask.from_dict(stored["pod_task"]), TaskIdentity(**stored["identity"]))
    exchanges = 0
    while not triggerer.task.done():
        moved, _, _ = select.select([sys.stdin], [], [], 0)
        exchanges += len(moved)
        if exchanges >= LATE:
            triggerer.runner.to_cancel.append(1)
        await triggerer.runner.cancel_triggers()
        await asyncio.wait([triggerer.task], timeout=EVERY)
    supervisor.state = "success"
    await pods_finished()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s: %(message)s", force=True)
    # It writes into the triggerer's own log.
    logging.getLogger("kpo_async.lease").propagate = False
    asyncio.run(main(sys.argv[1]))
