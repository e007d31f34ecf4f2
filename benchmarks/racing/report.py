"""What `makespan.py` measured, as a Markdown table, as JSON and as a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from racing.measure import Result

NOTES = """\
`deferrable`: workers start and end the tasks. `ended`: the triggerer ends them (`end_from_trigger`). `workerless`: it
starts them too (`start_from_trigger`). `-mapped`, `-large`: as one mapped task. A `floor` is Airflow's own: tasks of
the same kind that wait for a timer and have no pod, in an Airflow where this package preloads nothing; the incumbent
likewise. CPU is that of Airflow's processes, without the database. Slot seconds are worker slots held, summed up.
"""
COLUMNS: dict[str, Callable[[Result], str]] = {
    "": lambda r: r.row,
    "tasks": lambda r: f"{r.tasks} of {r.seconds:.0f} s" + (f", **{r.failed} failed**" if r.failed else ""),
    "makespan, s": lambda r: f"{r.makespan:.0f}",
    "CPU per task, s": lambda r: f"{sum(r.cpu.values()) / max(1, r.tasks):.2f}",
    "of it: workers / scheduler / triggers / triggerer / API server / DAG processor": lambda r: " / ".join(
        f"{r.cpu[name] / max(1, r.tasks):.3f}"
        for name in ("workers", "scheduler", "triggers", "triggerer", "api-server", "dag-processor")
    ),
    "pods at once": lambda r: str(r.most("pods")),
    "deferred at once": lambda r: str(r.most("deferred")),
    "slot seconds": lambda r: f"{r.slot_seconds:.0f}",
    "requests about pods": lambda r: str(sum(r.requests.values())),
    "stalls over 0.2 s": lambda r: f"{len(r.stalls)}, longest {max(r.stalls):.2f} s" if r.stalls else "0",
}


def table(results: Sequence[Result]) -> str:
    """Return one line per run."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(column(result) for column in COLUMNS.values()) + " |" for result in results]
    return "\n".join(lines) + "\n"


def write(stem: Path, title: str, results: Sequence[Result]) -> None:
    """Write `stem`.json, .md and .png."""
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
    runs = [result.to_dict() for result in results]
    stem.with_suffix(".json").write_text(json.dumps({"title": title, "machine": machine, "runs": runs}) + "\n")
    stem.with_suffix(".md").write_text(f"{title[0].upper()}{title[1:]}.\n\n{table(results)}\n{NOTES}")
    plot(stem.with_suffix(".png"), title, results)


def plot(path: Path, title: str, results: Sequence[Result]) -> None:
    """Draw deferred tasks and worker slots over time, a curve per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for result in results:
        times = [sample["at"] for sample in result.samples]
        style = ":" if result.row.startswith("floor") else "-"
        (line,) = above.plot(times, [sample["deferred"] for sample in result.samples], style, label=result.row)
        below.plot(times, [sample["slots"] for sample in result.samples], style, color=line.get_color())
    above.set(ylabel="tasks deferred", title=title, ylim=(0, None))
    below.set(ylabel="slots held", xlabel="seconds since the DAG was triggered", ylim=(0, None), xlim=(0, None))
    above.legend(frameon=False, fontsize="small")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
