"""Kubernetes' resource quantities ("500m", "1Gi") as exact numbers, and numbers of bytes as quantities."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_DECIMAL = {
    name: Fraction(1000) ** power for power, name in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
_BINARY = {name: Fraction(1024**power) for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}
_FORM = re.compile(r"\+?(\d+\.?\d*|\.\d+)(?:[eE]([-+]?\d{1,2})|([a-zA-Z]*))", re.ASCII)
MI = 2**20


def parse_quantity(value: object) -> Fraction | None:
    """Return the number of a quantity, given as text or a number; None if it is not one, or a negative one."""
    found = _FORM.fullmatch(str(value)) if isinstance(value, (str, int, float)) else None
    if found is None or isinstance(value, bool):
        return None
    number, exponent, suffix = found.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    unit = _DECIMAL.get(suffix) or _BINARY.get(suffix)
    return None if unit is None else Fraction(number) * unit


def format_bytes(number: Fraction) -> str:
    """Return a quantity of at least that many bytes, in whole Mi from 1 Mi on."""
    return f"{math.ceil(number / MI)}Mi" if number >= MI else str(math.ceil(number))
