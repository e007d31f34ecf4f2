"""Kubernetes' resource quantities ("500m", "1Gi") as exact numbers that can be compared and added."""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_FORM = re.compile(r"([+-]?[0-9]*\.?[0-9]*)(?:([eE][-+]?[0-9]+)|([a-zA-Z]*))")


def parse(text: str) -> Fraction:
    """Return the number of a quantity. Raises ValueError for text that is not a quantity."""
    found = _FORM.fullmatch(text)
    if found is None or found.group(1) in ("", "+", "-", "."):
        raise ValueError(f"not a quantity: {text!r}")
    number, exponent, suffix = found.groups()
    if exponent:
        return Fraction(number) * Fraction(10) ** int(exponent[1:])
    if suffix not in _SUFFIXES:
        raise ValueError(f"not a quantity: {text!r}")
    return Fraction(number) * _SUFFIXES[suffix]
