"""Whether tasks end as their pods did while everything around them is killed, frozen, restarted and deleted.

    python benchmarks/chaos.py --minutes 15 --pods 100 [--seed 7]
    KUBECONFIG=... KPO_CLUSTER_COMMAND=.../cluster python benchmarks/chaos.py

An Airflow on PostgreSQL with two triggerers runs DAGs of twenty pods all the time, and `havoc/havoc.py` makes trouble.
The pods run on the cluster of KUBECONFIG, whose API server is killed now and then by KPO_CLUSTER_COMMAND; without it on
the embedded cluster, whose API server misbehaves all the time. Then it prints what was promised and what broke it, and
exits with 1 if anything did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from havoc.havoc import Havoc
from havoc.plan import PODS, Planned, planned, random_lines
from havoc.verdict import Verdict, judge
from havoc.witness import Witness
from rich.console import Console
from rich.table import Table

from kpo_async.demo.airflow import DagRun
from kpo_async.demo.cluster import Cluster
from kpo_async.demo.processes import ProgramError
from tests.deployments.airflow import Deployment, deployment

DAGS = Path(__file__).parent / "havoc" / "dags"
DRAIN = 420.0
"""Seconds in which the last runs have to end after the chaos."""
SETTLE = 30.0
"""Seconds after the last task's end in which its pod has to be gone."""
ENVIRONMENT = {
    # Seconds until the scheduler notices a worker or a scheduler that was killed, by default minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
}


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--pods", type=int, default=100, help="pods at once, about")
    parser.add_argument("--longest", type=int, default=120, help="seconds that a pod runs at most")
    parser.add_argument("--slots", type=int, default=8, help="worker slots")
    parser.add_argument("--keep", type=Path, help="folder that Airflow's files are copied to at the end")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    arguments = parser.parse_args()
    kubeconfig = Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None
    print(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        options = {"environment": ENVIRONMENT, "parallelism": arguments.slots, "faults": kubeconfig is None}
        async with deployment(DAGS, Path(folder), kubeconfig, **options) as (airflow, cluster):
            witness, chance = Witness(), random.Random(arguments.seed)
            havoc = Havoc(airflow, cluster, witness, chance)
            async with witness.watching(cluster):
                plans = await _trouble(arguments, airflow, havoc, chance)
                left = await _left(cluster)
            verdict = await asyncio.to_thread(judge, airflow, plans, havoc, witness, left)
            if arguments.keep:
                shutil.copytree(airflow.home, arguments.keep, dirs_exist_ok=True)
    return _report(arguments, plans, havoc, witness, verdict)


async def _trouble(
    arguments: argparse.Namespace, airflow: Deployment, havoc: Havoc, chance: random.Random
) -> list[Planned]:
    """Run DAGs under chaos for the given time, then let them end in peace."""
    plans: list[Planned] = []
    runs: list[DagRun] = []

    async def start_run() -> None:
        lines = random_lines(chance, arguments.longest)
        run = await airflow.trigger("chaos", {"lines": lines})
        runs.append(run)
        plans.extend(planned(run, lines))

    async def keep_busy() -> None:
        while sum(_open(airflow, run) for run in runs) * PODS < arguments.pods:
            await start_run()

    await keep_busy()
    raging = asyncio.create_task(havoc.rage(60 * arguments.minutes), name="havoc")
    end = time.monotonic() + 60 * arguments.minutes
    while not raging.done():
        if time.monotonic() < end:
            await keep_busy()
        await asyncio.sleep(2)
    await raging
    print("peace", flush=True)
    with contextlib.suppress(ProgramError):
        async for _ in airflow.ticks("all runs to end", DRAIN, 2):
            if not any(_open(airflow, run) for run in runs):
                break
    await asyncio.sleep(SETTLE)
    return plans


def _open(airflow: Deployment, run: DagRun) -> bool:
    return airflow.run_state(run) not in ("success", "failed")


async def _left(cluster: Cluster) -> list[str]:
    """Return the pods that are still there, with their phases; all tasks are over."""
    pods = (await cluster.client.list("pods", cluster.namespace))["items"]
    return [f"{pod['metadata']['name']} {pod['status'].get('phase')}" for pod in pods]


def _report(
    arguments: argparse.Namespace, plans: list[Planned], havoc: Havoc, witness: Witness, verdict: Verdict
) -> int:
    """Print what happened and what broke; return the exit code."""
    console = Console(width=120)
    troubles = Table(title=f"Trouble in {arguments.minutes:g} minutes", title_justify="left", show_header=False)
    for what, count in [*havoc.counts.most_common(), *verdict.notes.items()]:
        troubles.add_row(what, str(count))
    troubles.add_row("tasks", str(len(plans)))
    troubles.add_row("pods", str(len(witness.pods)))
    troubles.add_row("LISTs that the watch was compared with", str(witness.lists))
    console.print(troubles)
    promised = Table(title="Promises", title_justify="left")
    for heading in ("promised: none", "found"):
        promised.add_column(heading)
    for what, broken in verdict.promises().items():
        promised.add_row(what, str(len(broken)), style="red" if broken else "green")
    console.print(promised)
    for what, broken in verdict.promises().items():
        for line in broken[:20]:
            console.print(f"{what}: {line}", soft_wrap=True, markup=False, highlight=False)
    return int(any(verdict.promises().values()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
