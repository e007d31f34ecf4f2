"""What `watch_load.py` measured, as a line, as a Markdown table and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
NAMES = {"ours": "kpo_async, informer", "trigger": "kpo_async, trigger", "incumbent": "incumbent 10.25.0"}
COLOURS = {"ours": "tab:blue", "trigger": "tab:green", "incumbent": "tab:red"}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def seconds(value: float) -> str:
    """A duration in the unit that suits it."""
    return f"{value:.1f} s" if abs(value) >= 1 else f"{value * 1000:.1f} ms"


ROWS: dict[str, Callable[[Json], str]] = {
    "pods": lambda r: f"{r['pods']} over {r['over']:.0f} s",
    "triggers fired": lambda r: f"{r['fired']}" + (f", {sum(r['failures'].values())} failed" if r["failures"] else ""),
    "requests sent": lambda r: f"{sum(r['requests'].values())} " + _by_verb(r["requests"]),
    "requests about pods, as the server counts them, all clients": lambda r: _by_verb(r["server_requests"]),
    "new connections": lambda r: str(r["connections"]),
    "CPU": lambda r: f"{r['cpu']:.2f} s of {r['seconds']:.0f} s",
    "lag p50 / p99 / max": lambda r: " / ".join(seconds(quantile(r["lags"], share)) for share in (0.5, 0.99, 1)),
    "longest stall of the loop": lambda r: (
        f"{seconds(r['longest_stall'])}, working {seconds(r['longest_working_stall'])}"
    ),
    "memory over idle": lambda r: f"{r['memory'] / 2**20:.0f} MiB (idle {r['idle_memory'] / 2**20:.0f})",
}


def _by_verb(counts: dict[str, int]) -> str:
    return "(" + ", ".join(f"{count} {verb}" for verb, count in sorted(counts.items()) if count) + ")"


def summarize(result: Json) -> str:
    """One run in a few lines."""
    failures = "".join(f"\n    {count} x {error}" for error, count in result["failures"].items())
    return f"{NAMES[result['who']]}\n" + "\n".join(f"  {name}: {row(result)}" for name, row in ROWS.items()) + failures


class Report:
    """The runs of one invocation, and the files they become."""

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.results: list[Json] = []

    def add(self, result: Json) -> None:
        self.results.append(result)

    def write(self) -> None:
        """`stem`.json, .md and .png."""
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()}
        self.stem.with_suffix(".json").write_text(json.dumps({"machine": machine, "runs": self.results}, indent=1))
        self.stem.with_suffix(".md").write_text(self.table())
        self.plot()

    def table(self) -> str:
        """One column per run."""
        lines = ["| |" + "".join(f" {NAMES[result['who']]} |" for result in self.results)]
        lines.append("|---|" + "---|" * len(self.results))
        for name, row in ROWS.items():
            lines.append(f"| {name} |" + "".join(f" {row(result)} |" for result in self.results))
        return "\n".join(lines) + "\n"

    def plot(self) -> None:
        """The lag of every trigger, sorted: a curve per run."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        for result in self.results:
            count = len(result["lags"])
            shares = [100 * (place + 1) / count for place in range(count)]
            lags = [max(lag, 1e-5) * 1000 for lag in result["lags"]]
            axes.plot(shares, lags, color=COLOURS[result["who"]], label=NAMES[result["who"]])
        axes.set(
            yscale="log", xlabel="percentile of pods", ylabel="ms", title="How late a trigger learns that its pod ended"
        )
        axes.grid(alpha=0.3)
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(handles.values(), handles.keys())
        figure.savefig(self.stem.with_suffix(".png"), dpi=110)
