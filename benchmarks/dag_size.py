"""What the size of a DAG costs the triggerer, for each trigger of a task that starts there.

    python benchmarks/dag_size.py [--sizes 10,200,1000] [--triggers 100] [--json FILE]

Airflow sends the whole serialized DAG with each such trigger, and this package once in each message. This runs what the
two processes do, with Airflow's own code: the main process deserializes the DAG and encodes the message, the process of
the triggers decodes the message and deserializes the DAG again, on the event loop. Each DAG has the given number of
tasks beside one mapped task of 1,000, whose triggers come 50 a message, as Airflow assigns them. CPU time; "shared" is
`[kpo_async] share_dags`, the default. The garbage collector leaves out what was imported, as after `kpo_async.preload`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import structlog
from airflow.executors.workloads.trigger import RunTrigger
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.models.trigger import Trigger
from airflow.sdk import DAG
from airflow.sdk.execution_time.comms import _ResponseFrame
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import BaseTrigger, TriggerEvent

from kpo_async.hooks import shared_dags
from kpo_async.operators.pod import KubernetesPodOperator
from tests.airflow_versions import TaskInstanceDTO

POD: dict[str, Any] = {
    "image": "busybox:1.36",
    "cmds": ["sh", "-c"],
    "env_vars": {"A": "1", "B": "{{ ds }}"},
    "labels": {"team": "a"},
    "deferrable": True,
    "start_from_trigger": True,
    "end_from_trigger": True,
}
INSTANCES = 1000
BATCH = 50
"""Triggers of one message: `[triggerer] max_trigger_to_select_per_loop`."""


class Idle(BaseTrigger):
    """Waits until it is cancelled."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.Idle", {"start": self.start}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.Event().wait()
        yield TriggerEvent({})


@dataclass
class Cost:
    """Of one size of DAG."""

    tasks: int
    shared: bool
    kilobytes: float
    """Of the serialized DAG."""
    main_ms: float = 0.0
    """CPU of the main process for each trigger."""
    triggers_ms: float = 0.0
    """CPU of the process of the triggers for each of them."""
    message_ms: float = 0.0
    """The longest stall of the event loop: a message of 50 triggers is decoded."""
    dag_ms: float = 0.0
    """The longest stall after that: a DAG is deserialized."""


def encoded_dag(tasks: int) -> dict[str, Any]:
    with DAG("bench", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        for number in range(tasks):
            KubernetesPodOperator(task_id=f"task_{number}", arguments=["echo {{ ds }}"], **POD)
        KubernetesPodOperator.partial(task_id="mapped", **POD).expand(
            arguments=[[f"echo {number}"] for number in range(INSTANCES)]
        )
    data: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    return data


@contextmanager
def sharing(wanted: bool) -> Iterator[None]:
    kept = vars(DagSerialization)["from_dict"]
    if wanted:
        shared_dags.install()
    try:
        yield
    finally:
        DagSerialization.from_dict = kept  # type: ignore[method-assign]


def workload(number: int, data: dict[str, Any]) -> RunTrigger:
    """What the main process does for one trigger, apart from its database."""
    DagSerialization.from_dict(data).get_task("mapped")
    now = datetime.now(timezone.utc)
    return RunTrigger(
        id=number,
        classpath=f"{__name__}.Idle",
        encrypted_kwargs=Trigger.encrypt_kwargs({"start": "{}"}),
        ti=TaskInstanceDTO(
            id=uuid.uuid4(),
            dag_version_id=uuid.uuid4(),
            dag_id="bench",
            task_id="mapped",
            run_id="run",
            try_number=1,
            map_index=number,
            pool_slots=1,
            queue="default",
            priority_weight=1,
        ),
        dag_data=data,
        dag_run_data={
            **dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "run_after"), now),
            **{"dag_id": "bench", "run_id": "run", "start_date": now, "end_date": None, "run_type": "manual"},
            **{"state": "running", "consumed_asset_events": [], "partition_key": None},
        },
    )


async def longest_stall(runner: TriggerRunner) -> float:
    """Create the runner's triggers and return the longest time in ms for which the loop did nothing else."""
    longest, done = 0.0, False

    async def tick() -> None:
        nonlocal longest
        while not done:
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    ticking = asyncio.create_task(tick(), name="ticks")
    await runner.create_triggers()
    done = True
    await ticking
    return longest * 1e3


async def cancel(runner: TriggerRunner) -> None:
    tasks = [details["task"] for details in runner.triggers.values()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def measure(tasks: int, triggers: int, *, shared: bool) -> Cost:
    data = encoded_dag(tasks)
    cost = Cost(tasks, shared, len(json.dumps(data)) / 1e3)
    decoder = msgspec.msgpack.Decoder(_ResponseFrame)
    with sharing(shared):
        for first in range(0, triggers, BATCH):
            before = time.process_time()
            workloads = [workload(number, data) for number in range(first, first + BATCH)]
            if shared:
                shared_dags.abbreviate(workloads)
            message = messages.TriggerStateSync(to_create=workloads, to_cancel=set())
            frame = bytes(_ResponseFrame(id=1, body=message.model_dump()).as_bytes())
            cost.main_ms += (time.process_time() - before) * 1e3 / triggers
            runner, before = TriggerRunner(), time.process_time()
            received = messages.TriggerStateSync.model_validate(decoder.decode(frame[4:]).body)
            if shared:
                shared_dags.complete(received.to_create)
            cost.message_ms = max(cost.message_ms, (time.process_time() - before) * 1e3)
            runner.to_create.extend(received.to_create)
            cost.dag_ms = max(cost.dag_ms, await longest_stall(runner))
            cost.triggers_ms += (time.process_time() - before) * 1e3 / triggers
            await cancel(runner)
    return cost


def table(costs: list[Cost]) -> str:
    lines = [
        "| tasks | shared | serialized, KB | main process, ms | process of the triggers, ms | stall by a message, ms "
        "| stall by a DAG, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        shared = "yes" if cost.shared else "no"
        numbers = (cost.kilobytes, cost.main_ms, cost.triggers_ms, cost.message_ms, cost.dag_ms)
        lines.append(f"| {cost.tasks} | {shared} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="10,200,1000")
    parser.add_argument("--triggers", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sys.modules.setdefault("dag_size", sys.modules[__name__])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(measure(1, BATCH, shared=False))  # imports, and whatever else is made once
    gc.collect()
    gc.freeze()
    costs = [
        asyncio.run(measure(int(size), arguments.triggers, shared=shared))
        for size in arguments.sizes.split(",")
        for shared in (False, True)
    ]
    print(table(costs))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n")


if __name__ == "__main__":
    main()
