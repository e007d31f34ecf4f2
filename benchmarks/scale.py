"""What one triggerer holds: the cost of a pod, an event, a log line and a DAG's size, and what many pods need.

    python benchmarks/scale.py [--pods 1000 --pods 10000] [--events 20000]

A process runs the triggers of N pods in one event loop, beside a server that replays pods as a real API server sends
them (`scaling/`). Its CPU and memory are measured phase by phase. Writes benchmarks/results/scale.json and scale.md,
with what 10,000 and 100,000 pods need computed from the largest run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scale"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{HERE}:{HERE.parent}",
    "AIRFLOW__KPO_ASYNC__START_FROM_TRIGGER_DAG_SIZE": "1000000",
}
POD_MINUTES = 10
"""How long a pod runs in the table of needs. It has four events: scheduled, started, ended, deleted."""
EVENTS = 4
LOG_LINES = 1.0
"""Lines that a pod logs each second there."""
AIRFLOWS_RATE = 1500
"""Records a second that Airflow carries from a triggerer to its log files."""
MEBIBYTE = 2**20
PHASES = {
    "start": "while all triggers start at once",
    "event": "while events come as fast as they are read",
    "end": "while all pods end at once",
}
MAKESPAN = RESULTS.with_name("makespan.json")
BUSY = 0.7
"""The share of a core that the main process of a triggerer, which has one thread, may use."""


def run(pods: int, events: int) -> Json:
    """Measure one process with `pods` triggers."""
    server = subprocess.Popen(_python("server", pods), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        return _measured("process", server.stdout.readline().strip(), pods, events)
    finally:
        server.kill()
        server.wait()


def _python(module: str, *words: object) -> list[str]:
    return [sys.executable, "-m", f"scaling.{module}", *map(str, words)]


def _measured(module: str, *words: object) -> Json:
    done = subprocess.run(_python(module, *words), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return found


def costs(result: Json) -> dict[str, float]:
    """Return what one of each costs, in seconds of CPU and bytes."""
    pods = result["pods"]
    return {
        "memory": (result["memory"] - result["idle_memory"]) / pods,
        "start": result["start_cpu"] / pods,
        "event": result["event_cpu"] / result["events"],
        "line": result["log_cpu"] / result["lines"],
        "end": result["end_cpu"] / pods,
    }


def table_of_costs(results: list[Json]) -> str:
    """Return a Markdown table with a column for each run."""
    rows = [("memory of a pod, KiB", "memory", 1 / 1024), ("start to follow a pod, ms of CPU", "start", 1e3)]
    rows += [("a pod's event, us of CPU", "event", 1e6), ("a log line, us of CPU", "line", 1e6)]
    rows += [("end of a pod, ms of CPU", "end", 1e3)]
    lines = ["| | " + " | ".join(f"{result['pods']:,} pods" for result in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    for heading, name, factor in rows:
        lines.append(f"| {heading} | " + " | ".join(f"{costs(one)[name] * factor:.2f}" for one in results) + " |")
    for phase, heading in PHASES.items():
        stalls = " | ".join(f"{result[f'{phase}_stall'] * 1e3:.0f}" for result in results)
        lines.append(f"| longest stall of the event loop {heading}, ms | {stalls} |")
    return "\n".join(lines)


def table_of_dags(sizes: dict[str, Json]) -> str:
    """Return a Markdown table of what reading a DAG takes for each task that starts."""
    lines = ["| DAG | KiB | ms, Airflow's own | ms, `share_dags` |", "|---|---|---|---|"]
    for shape, found in sizes.items():
        own, shared = found["seconds"] * 1e3, found["shared"] * 1e3
        lines.append(f"| {shape} | {found['bytes'] / 1024:.0f} | {own:.2f} | {shared:.2f} |")
    return "\n".join(lines)


def airflows_costs() -> dict[str, float]:
    """Return the CPU seconds that Airflow's components use for a task without a worker; {} before `makespan.py` ran."""
    if not MAKESPAN.exists():
        return {}
    runs = json.loads(MAKESPAN.read_text())["runs"]
    run = next(run for run in reversed(runs) if run["row"] in ("workerless-mapped", "workerless-large"))
    return {name: spent / run["tasks"] for name, spent in run["cpu"].items()}


def table_of_needs(result: Json) -> str:
    """Return a Markdown table of what many pods need at the costs of `result`."""
    cost, idle, airflow = costs(result), result["idle_memory"], airflows_costs()
    lines = ["| pods at once | memory | cores for pods | cores for logs | cores for Airflow | triggerers | with logs |"]
    lines.append("|---|---|---|---|---|---|---|")
    for pods in (1_000, 10_000, 100_000):
        rate = pods / (60 * POD_MINUTES)
        cores = rate * (cost["start"] + EVENTS * cost["event"] + cost["end"])
        logging = pods * LOG_LINES * cost["line"]
        memory = (idle + pods * cost["memory"]) / MEBIBYTE
        by_logs = math.ceil(pods * LOG_LINES / AIRFLOWS_RATE)
        if airflow:
            triggerers = math.ceil(rate * max(airflow["triggerer"], airflow["triggers"]) / BUSY)
            known = f"{rate * sum(airflow.values()):.2f} | {triggerers} | {max(triggerers, by_logs)}"
        else:
            known = f"run makespan.py | | {by_logs} or more"
        lines.append(f"| {pods:,} | {memory:,.0f} MiB | {cores:.3f} | {logging:.2f} | {known} |")
    return "\n".join(lines)


def report(results: list[Json], sizes: dict[str, Json]) -> str:
    """Return the Markdown text."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return f"""# What one triggerer holds

Generated by `benchmarks/scale.py` ({machine}): triggers of N pods in one event loop, beside a server that replays pods.

{table_of_costs(results)}

Costs are CPU of the process of the triggers. Airflow's own are not in it.

## The size of a DAG

A task that starts in the triggerer brings its whole DAG, which Airflow deserializes on the event loop. `[kpo_async]
share_dags`, on by default, has it recognize a DAG that it knows. One mapped task is the cheap shape of many pods.

{table_of_dags(sizes)}

## What many pods need

Pods that run for {POD_MINUTES} minutes, have {EVENTS} events each and log {LOG_LINES:g} line a second, as tasks without a worker.
Costs of pods are those measured with {results[-1]["pods"]:,} pods, costs of Airflow those of one mapped task in
`makespan.md`.

{table_of_needs(results[-1])}

Memory and CPU grow with the number of pods and nothing else: no request is made while a pod runs, and each triggerer has
one watch. What limits a triggerer is Airflow's. Its main process has one thread, which carries every XCom and state. And it
brings about {AIRFLOWS_RATE:,} log records a second to the files, which limits pods that log much: set `get_logs=False` where
logs go elsewhere. Set `[triggerer] capacity` to the pods of one triggerer (1,000 by default).
"""  # noqa: E501


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, action="append", help="1,000 and 10,000 by default")
    parser.add_argument("--events", type=int, default=20_000)
    arguments = parser.parse_args()
    results = [run(pods, arguments.events) for pods in arguments.pods or (1_000, 10_000)]
    sizes = _measured("dags")
    RESULTS.with_suffix(".json").write_text(json.dumps({"runs": results, "dags": sizes}, indent=1) + "\n")
    text = report(results, sizes)
    RESULTS.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
