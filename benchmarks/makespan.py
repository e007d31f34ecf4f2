"""How long a whole Airflow takes for many deferred pods, and what it costs: the incumbent, ours, and Airflow's floor.

    KUBECONFIG=... python benchmarks/makespan.py [--only workerless-mapped] [--pods 50] [--seconds 30]

All rows run in one go, one after the other, on the same machine, database and cluster, with simulated pods. Floors are
tasks of the same kind that wait for a timer and have no pod. They and the incumbent run in an Airflow of their own in
which this package preloads nothing. Each Airflow runs a few tasks first, because what it does for the first time it
does slowly. PostgreSQL is used where it is installed, else sqlite; without a kubeconfig the embedded cluster. Writes
JSON, a Markdown table and a plot to benchmarks/results/ if all rows have run, or under the name that --name says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from racing.measure import Result, measure
from racing.report import table, write

from kpo_async.demo.airflow import Airflow
from kpo_async.demo.cluster import Cluster, open_cluster
from kpo_async.demo.processes import ProgramError
from tests.deployments.postgres import postgres, programs

HERE = Path(__file__).parent
INCUMBENT = {"module": "airflow.providers.cncf.kubernetes.operators.pod"}
OURS = {"module": "kpo_async.operators.pod"}
ENDED = {**OURS, "end_from_trigger": True}
WORKERLESS = {**ENDED, "start_from_trigger": True}
WARM_UP = {"tasks": 2, "mapped": True}


@dataclass(frozen=True)
class Row:
    """A DAG to run: `maker` is a function of `racing.dags`, `arguments` are its."""

    maker: str
    arguments: Mapping[str, Any]
    preload: bool = False
    mapped: bool = False
    large: bool = False
    """1,000 tasks of 60 s, unless the options say something else."""
    asked: bool = False
    """Runs only when it is asked for."""


ROWS = {
    "incumbent": Row("pods", INCUMBENT),
    "floor deferrable": Row("timers", {"workerless": False, "ends": False}),
    "floor ended": Row("timers", {"workerless": False, "ends": True}),
    "floor workerless": Row("timers", {"workerless": True, "ends": True}),
    "floor workerless-mapped": Row("timers", {"workerless": True, "ends": True}, mapped=True),
    "incumbent-mapped": Row("pods", INCUMBENT, mapped=True, asked=True),
    "deferrable": Row("pods", OURS, preload=True),
    "ended": Row("pods", ENDED, preload=True),
    "workerless": Row("pods", WORKERLESS, preload=True),
    "workerless-mapped": Row("pods", WORKERLESS, preload=True, mapped=True),
    "deferrable-mapped": Row("pods", OURS, preload=True, mapped=True, asked=True),
    "ended-mapped": Row("pods", ENDED, preload=True, mapped=True, asked=True),
    "floor deferrable, preloaded": Row("timers", {"workerless": False, "ends": False}, preload=True, asked=True),
    "workerless-large": Row("pods", WORKERLESS, preload=True, mapped=True, large=True),
}


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, help="tasks of each row, 200 by default")
    parser.add_argument("--seconds", type=int, help="how long each pod runs, 30 by default")
    parser.add_argument("--slots", type=int, default=4, help="worker slots")
    kubeconfig = Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None
    parser.add_argument("--kubeconfig", type=Path, default=kubeconfig, help="a real cluster with kwok's nodes")
    parser.add_argument("--timeout", type=float, default=1800)
    parser.add_argument("--only", action="append", choices=ROWS, help="a row to run; may be repeated")
    parser.add_argument("--sqlite", action="store_true", help="where PostgreSQL is installed, too")
    parser.add_argument("--name", help="of the files in benchmarks/results/, makespan by default")
    parser.add_argument("--keep", type=Path, help="folder that Airflow's logs are copied to")
    arguments = parser.parse_args()
    chosen = arguments.only or [name for name, row in ROWS.items() if not row.asked]
    results: list[Result] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with open_cluster(arguments.kubeconfig, Path(folder)) as cluster:
                for preload, rows in groupby(chosen, lambda name: ROWS[name].preload):
                    async for result in _run(list(rows), preload, cluster, arguments):
                        print(table([result]).splitlines()[-1], flush=True)
                        results.append(result)
    finally:
        _report(results, arguments)
    return int(any(result.failed for result in results))


def _report(results: Sequence[Result], arguments: argparse.Namespace) -> None:
    print(table(results))
    name = arguments.name or (None if arguments.only else "makespan")
    if name:
        where = "a real API server" if arguments.kubeconfig else "the embedded cluster"
        title = f"{arguments.slots} worker slots, simulated pods on {where}, one triggerer"
        write(HERE / "results" / name, title, results)


async def _run(
    rows: Sequence[str], preload: bool, cluster: Cluster, arguments: argparse.Namespace
) -> AsyncIterator[Result]:
    """Run some rows in an Airflow of their own."""
    with tempfile.TemporaryDirectory() as folder:
        dags = Path(folder)
        seconds = {name: arguments.seconds or (60 if ROWS[name].large else 30) for name in rows}
        for name in rows:
            row, tasks = ROWS[name], arguments.pods or (1000 if ROWS[name].large else 200)
            given = {**row.arguments, "seconds": seconds[name]}
            _write_dag(dags, name, row, tasks=tasks, mapped=row.mapped, **given)
            _write_dag(dags, f"{name} warm-up", row, **WARM_UP, **{**given, "seconds": 1})
        environment = {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
            "AIRFLOW__KPO_ASYNC__PRELOAD": "on" if preload else "off",
            # A DAG file is parsed by its tasks. Parsing all of them now and then is not what is measured.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__CORE__MAX_MAP_LENGTH": "100000",
            "PYTHONPATH": f"{HERE}:{HERE.parent}",
        }
        async with (
            _database(arguments) as url,
            Airflow(dags, parallelism=arguments.slots, environment=environment, database=url) as airflow,
        ):
            for name in rows:
                await measure(_dag_id(f"{name} warm-up"), 1, airflow, cluster, arguments.timeout)
                result = await measure(_dag_id(name), seconds[name], airflow, cluster, arguments.timeout)
                result.row = name
                yield result
            if arguments.keep:
                shutil.copytree(airflow.home, arguments.keep, dirs_exist_ok=True)


def _dag_id(name: str) -> str:
    return name.replace(" ", "_").replace(",", "")


def _write_dag(dags: Path, name: str, row: Row, **arguments: Any) -> None:
    dag_id = _dag_id(name)
    given = {"dag_id": dag_id, **row.arguments, **arguments}
    stub = f'"""An Airflow DAG."""\nfrom racing.dags import {row.maker}\n\ndag = {row.maker}(**{given!r})\n'
    (dags / f"{dag_id}.py").write_text(stub)


@asynccontextmanager
async def _database(arguments: argparse.Namespace) -> AsyncIterator[str | None]:
    """Yield the URL of a PostgreSQL database; None where it is not installed."""
    try:
        programs()
    except ProgramError:
        arguments.sqlite = True
    async with nullcontext(None) if arguments.sqlite else postgres() as url:
        yield url


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
