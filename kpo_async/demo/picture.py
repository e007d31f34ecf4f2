"""Draw the demo as one picture: running pods and held worker slots over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kpo_async.demo.observe import Sample


def draw(samples: Sequence[Sample], slots: int, path: Path) -> None:
    """Write a PNG to `path`."""
    # Importing matplotlib takes a second, which a demo that fails early need not spend.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    times = [sample.elapsed for sample in samples]
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.stackplot(
        times,
        [sample.pods["Running"] for sample in samples],
        [sample.pods["Pending"] for sample in samples],
        labels=["running", "pending"],
        colors=["#2a9d5c", "#f2c14e"],
    )
    above.plot(times, [sample.tasks["deferred"] for sample in samples], color="#1d5fa8", label="tasks deferred")
    above.set_ylabel("pods")
    above.set_title("Pods running, and worker slots held for them")
    above.legend(loc="upper right", frameon=False)
    below.fill_between(times, [sample.slots for sample in samples], step="mid", color="#b5446e")
    below.axhline(slots, color="#777777", linewidth=1, linestyle=":")
    below.set_ylabel(f"slots held, of {slots}")
    below.set_ylim(0, slots * 1.15)
    below.set_xlabel("seconds since the DAG was triggered")
    for axes in (above, below):
        axes.set_xlim(0, max(times))
        axes.spines[["top", "right"]].set_visible(False)
    above.set_ylim(bottom=0)
    figure.savefig(path, dpi=120)
