"""Show samples of the demo: as a panel that is redrawn, or as plain lines where there is no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from rich.bar import Bar
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kpo_async.demo.observe import GONE, Sample

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""
PHASES = {"Pending": "yellow", "Running": "green", "Succeeded": "blue", "Failed": "red", GONE: "bright_black"}
STATES = {"running": "magenta", "queued": "yellow", "deferred": "cyan", "success": "green", "failed": "red"}


class View(Protocol):
    """Where the demo shows its progress."""

    def step(self, text: str, style: str | None = None) -> None:
        """Print a line: what happens next, or how it went."""

    def show(self, sample: Sample) -> None:
        """Show the current state."""

    def close(self) -> None:
        """End the display."""


class PlainView:
    """A line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = -PLAIN_EVERY

    def step(self, text: str, style: str | None = None) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    def show(self, sample: Sample) -> None:
        if sample.elapsed - self._last >= PLAIN_EVERY:
            self._last = sample.elapsed
            self._console.print(plain_line(sample), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


class LiveView:
    """A panel that is redrawn."""

    def __init__(self, console: Console, pods: int, slots: int) -> None:
        self._console = console
        self._pods = pods
        self._slots = slots
        self._live: Live | None = None

    def step(self, text: str, style: str | None = None) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True, style=style)

    def show(self, sample: Sample) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._draw(sample), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self, sample: Sample) -> Panel:
        bars = Table.grid(padding=(0, 2))
        bars.add_column(width=18)
        bars.add_column(justify="right", width=4)
        bars.add_column(width=50)
        bars.add_row(Text("Pods", style="bold"))
        for phase, colour in PHASES.items():
            _add_bar(bars, phase, sample.pods[phase], self._pods, colour)
        bars.add_row()
        bars.add_row(Text("Tasks", style="bold"))
        for state, colour in STATES.items():
            _add_bar(bars, state, sample.tasks[state], self._pods, colour)
        bars.add_row()
        _add_bar(bars, f"Slots held, of {self._slots}", sample.slots, self._slots, "bold magenta")
        footer = Text(f"\n{_requests(sample)}\nLog lines {sample.log_lines}")
        if sample.faults:
            footer.append(f"\nFault {len(sample.faults)}: {sample.faults[-1]}", style="red")
        return Panel(Group(bars, footer), title=f"kpo-async demo  {sample.elapsed:5.1f} s", expand=False)


def plain_line(sample: Sample) -> str:
    """Return a sample as one line."""
    tasks = _counts(sample.tasks, STATES)
    pods = _counts(sample.pods, PHASES)
    faults = f"  fault {len(sample.faults)}: {sample.faults[-1]}" if sample.faults else ""
    logs = f"log lines: {sample.log_lines}"
    return f"{sample.elapsed:6.1f} s  pods: {pods}  tasks: {tasks}  {_requests(sample)}  {logs}{faults}"


def summary(runs: Mapping[str, Mapping[str, str]]) -> Table:
    """Return the table that is printed at the end: a column for each run, by the name of its mode."""
    table = Table(title="What happened", title_justify="left")
    for heading in ("", *runs):
        table.add_column(heading, style=None if heading else "bold")
    for name in dict.fromkeys(name for rows in runs.values() for name in rows):
        table.add_row(name, *(rows.get(name, "") for rows in runs.values()))
    return table


def _add_bar(table: Table, name: str, count: int, of: int, colour: str) -> None:
    table.add_row(Text(name), Text(str(count)), Bar(size=of, begin=0, end=min(count, of), color=colour.split()[-1]))


def _requests(sample: Sample) -> str:
    if sample.traffic is None:
        return "requests: metrics not readable"
    return f"watches open: {sample.traffic.watches}  requests: {requests_text(sample.traffic.requests)}"


def requests_text(requests: Counter[str]) -> str:
    """Return the requests by verb, the most frequent first."""
    return ", ".join(f"{count} {verb}" for verb, count in requests.most_common()) or "none"


def _counts(counts: Counter[str], order: Mapping[str, str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name]) or "none"
