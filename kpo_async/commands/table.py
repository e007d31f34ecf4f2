"""Results: tables, text and JSON on stdout, whatever else the process prints there.

On a terminal a table is drawn by rich, which Airflow brings; elsewhere it is plain text. What is printed comes from
clusters and users: control characters are shown as such, so that none of it can steer the terminal.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timezone
from typing import Any, TextIO

import msgspec

STYLES = {
    "Running": "green",
    "running": "green",
    "Succeeded": "blue",
    "Pending": "yellow",
    "Failed": "red",
    "failed": "red",
    "ok": "green",
    "missing": "red",
    "problem": "red",
    "warning": "yellow",
}
"""Colours of cells, by their text."""


_results: TextIO | None = None


@contextmanager
def results_apart() -> Iterator[None]:
    """Send to stderr what others print to stdout, such as Airflow with its log lines."""
    global _results
    _results = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results = None


def results() -> TextIO:
    """Return the stream for results."""
    return _results or sys.stdout


def show(text: str = "") -> None:
    """Print a line."""
    print(text, file=results(), flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON: structs, dates and enums included."""
    show(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
    """Print rows, or the sentence `empty` when there are none."""
    texts = [[plain(cell) for cell in row] for row in rows]
    if not texts:
        print(empty, file=sys.stderr)
    elif results().isatty() and (table := rich_table(columns, texts)) is not None:
        from rich.console import Console

        Console(file=results(), highlight=False).print(table)
    else:
        show(plain_table(columns, texts))


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """Return a table of rich's; None where rich is not installed."""
    try:
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column.upper(), overflow="fold", no_wrap=number < len(columns) - 1)
    for row in rows:
        table.add_row(*(Text(plain(cell), STYLES.get(cell, "")) for cell in row))
    return table


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines with aligned columns."""
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return "\n".join("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def plain(text: object) -> str:
    """Return text on one line, with control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def age(moment: datetime | None) -> str:
    """Return how long ago a moment was, as kubectl writes it: `45s`, `12m`, `3h20m`, `5d`."""
    if moment is None:
        return "?"
    seconds = max(0, int((datetime.now(timezone.utc) - moment).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 60:
        return f"{minutes}m"
    return f"{hours}h{minutes % 60}m" if hours < 48 else f"{days}d"


def print_facts(facts: Mapping[str, object]) -> None:
    """Print what is not empty of `facts`, one per line."""
    known = {name: plain(value) for name, value in facts.items() if value not in (None, "", [], {})}
    width = max(map(len, known), default=0)
    indent, room = " " * (width + 2), max(shutil.get_terminal_size().columns - width - 2, 40)
    for name, value in known.items():
        show(f"{name}:".ljust(width + 1) + " " + f"\n{indent}".join(_folded(value, room)))


def _folded(text: str, width: int) -> list[str]:
    """Return the lines of a text on a terminal; elsewhere it stays one line."""
    return textwrap.wrap(text, width, break_long_words=False) if results().isatty() else [text]
