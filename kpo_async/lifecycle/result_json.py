"""Parse a task's result, and refuse what Airflow cannot store, naming the value and its place.

Python's parser accepts NaN, Infinity, 1e999, integers of any size and lone surrogates. Airflow's supervisor and API
take none of these (msgpack has 64-bit integers and UTF-8, JSON has finite numbers), and their errors do not say where
the value is.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeAlias

_SUSPICIOUS = re.compile(
    r"\d{19}"  # an integer beyond 64 bits, or a number beyond a float
    r"|\d[eE]\+?\d{3}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGERS = range(-(2**63), 2**64)
"""What msgpack can encode."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

_Place: TypeAlias = "tuple[_Place, str | int] | None"
"""A value's parent and its key or index there; None for the whole result."""


def load(text: str) -> Any:
    """Return the value of the JSON `text`.

    Raise `json.JSONDecodeError` if it is not valid, and `ValueError` for a value that Airflow cannot store.
    """
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    value = json.loads(text, parse_constant=constant)
    # Looking at every value takes longer than parsing, and few results need it.
    if (constants or _SUSPICIOUS.search(text)) and (found := _first_problem(value)) is not None:
        place, problem = found
        raise ValueError(f"{problem} at {_describe(place)}; write null or text instead")
    return value


def _first_problem(value: Any) -> tuple[_Place, str] | None:
    """Return the place of the first value, in the order of the text, that cannot be stored, and what it is."""
    remaining: list[tuple[_Place, Any]] = [(None, value)]
    while remaining:
        place, item = remaining.pop()
        if place is not None and _has_surrogate(place[1]):
            return place, "a key with half a surrogate pair"
        if (problem := _problem(item)) is not None:
            return place, problem
        if isinstance(item, (dict, list)):
            children = list(item.items() if isinstance(item, dict) else enumerate(item))
            remaining += [((place, key), child) for key, child in reversed(children)]
    return None


def _problem(item: Any) -> str | None:
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    if isinstance(item, int) and item not in _INTEGERS:
        return "an integer of more than 64 bits"
    return "half a surrogate pair" if _has_surrogate(item) else None


def _has_surrogate(item: Any) -> bool:
    return isinstance(item, str) and _SURROGATE.search(item) is not None


def _describe(place: _Place) -> str:
    """Return a place as a path: `$.metrics[3]["loss (a)"]`."""
    steps = []
    while place is not None:
        place, key = place
        if isinstance(key, int):
            steps.append(f"[{key}]")
        else:
            steps.append(f".{key}" if _IDENTIFIER.fullmatch(key) else f"[{json.dumps(key)}]")
    return "$" + "".join(reversed(steps))
