"""How long a whole Airflow takes for many deferred pods, and what its processes burn, ours and the incumbent's.

    python benchmarks/airflow_makespan.py --pods 200 --seconds 30 [--kubeconfig PATH --simulated]

Airflow, its settings, the cluster and the pods are the same for both; only the operator's import differs. Without a
kubeconfig the pods run on the embedded cluster, as local processes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kpo_async.demo.airflow import Airflow
from kpo_async.demo.cluster import open_cluster

OPERATORS = {
    "incumbent": "airflow.providers.cncf.kubernetes.operators.pod",
    "kpo_async": "kpo_async.operators.pod",
}
DAGS = Path(__file__).parent / "dags"


@dataclass(frozen=True)
class Result:
    """One operator's numbers."""

    makespan: float
    """Seconds from the trigger of the DAG to its end."""
    cpu: float
    """Seconds of CPU that Airflow's processes used in that time."""
    failed: int
    requests: int | None
    """Requests about pods that the API server answered, all clients together."""


async def measure(operator: str, arguments: argparse.Namespace) -> Result:
    """Run the DAG once in an Airflow of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_cluster(arguments.kubeconfig, Path(folder)) as cluster:
            environment = {
                "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(arguments.pods),
                "MAKESPAN_OPERATOR": OPERATORS[operator],
                "MAKESPAN_PODS": str(arguments.pods),
                "MAKESPAN_SECONDS": str(arguments.seconds),
                "MAKESPAN_SIMULATED": "1" if arguments.simulated else "",
            }
            async with Airflow(DAGS, parallelism=arguments.slots, environment=environment) as airflow:
                before, cpu, start = await cluster.traffic(), airflow.cpu_seconds(), time.monotonic()
                run = await airflow.trigger("makespan")
                await airflow.finished(run, timeout=arguments.timeout)
                makespan, burnt = time.monotonic() - start, airflow.cpu_seconds() - cpu
                after = await cluster.traffic()
                failed = sum(task.state != "success" for task in airflow.task_instances(run))
    requests = (after.requests - before.requests).total() if before and after else None
    return Result(makespan, burnt, failed, requests)


def table(results: dict[str, Result], arguments: argparse.Namespace) -> Table:
    """The results side by side."""
    shown = Table(title=f"{arguments.pods} pods of {arguments.seconds} s, {arguments.slots} worker slots")
    for heading in ("", "makespan, s", "CPU per task, s", "requests about pods", "failed"):
        shown.add_column(heading, justify="right")
    for name, result in results.items():
        requests = "?" if result.requests is None else str(result.requests)
        cpu = f"{result.cpu / arguments.pods:.2f}"
        shown.add_row(name, f"{result.makespan:.0f}", cpu, requests, str(result.failed))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=30, help="how long each pod runs")
    parser.add_argument("--slots", type=int, default=4, help="worker slots")
    parser.add_argument("--kubeconfig", type=Path, help="a real cluster")
    parser.add_argument("--simulated", action="store_true", help="pods without processes")
    parser.add_argument("--timeout", type=float, default=1800)
    parser.add_argument("--only", choices=OPERATORS, help="one operator")
    arguments = parser.parse_args()
    operators = [arguments.only] if arguments.only else list(OPERATORS)
    results = {operator: asyncio.run(measure(operator, arguments)) for operator in operators}
    Console().print(table(results, arguments))


if __name__ == "__main__":
    main()
