"""Draw the demo as one picture: running pods and held worker slots over time, a column for each mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kpo_async.demo.observe import Sample, duration

WIDTH = {1: 10.0, 2: 13.0}
"""Inches by the number of columns."""


def draw(runs: Mapping[str, Sequence[Sample]], slots: int, path: Path) -> None:
    """Write a PNG to `path`. `runs`: the samples of each mode, by its name."""
    # Importing matplotlib takes a second, which a demo that fails early need not spend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH.get(len(runs), 16.0), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    grid: Any = figure.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 1])
    for above, below, (mode, samples) in zip(*grid, runs.items(), strict=True):
        _draw_run(above, below, samples, slots)
        above.set_title(f"{mode}: {duration(samples):.0f} s")
        below.set_xlabel("seconds since the DAG was triggered")
    grid[0][0].set_ylabel("pods")
    grid[0][0].legend(loc="upper right", frameon=False)
    grid[1][0].set_ylabel(f"slots held, of {slots}")
    figure.suptitle("Pods running, and worker slots held for them")
    figure.savefig(path, dpi=120)


def _draw_run(above: Any, below: Any, samples: Sequence[Sample], slots: int) -> None:
    times = [sample.elapsed for sample in samples]
    above.stackplot(
        times,
        [sample.pods["Running"] for sample in samples],
        [sample.pods["Pending"] for sample in samples],
        labels=["running", "pending"],
        colors=["#2a9d5c", "#f2c14e"],
    )
    above.plot(times, [sample.tasks["deferred"] for sample in samples], color="#1d5fa8", label="tasks deferred")
    above.set_ylim(bottom=0)
    below.fill_between(times, [sample.slots for sample in samples], step="mid", color="#b5446e")
    below.axhline(slots, color="#777777", linewidth=1, linestyle=":")
    below.set_ylim(0, slots * 1.15)
    for axes in (above, below):
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
