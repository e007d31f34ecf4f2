"""Quantities as Kubernetes writes them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from kpo_async.pod.quantity import format_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", Fraction(1)),
        (3, Fraction(3)),
        ("500m", Fraction(1, 2)),
        ("1.5Gi", Fraction(3 * 2**29)),
        (".5k", Fraction(500)),
        ("2e3", Fraction(2000)),
        ("1E", Fraction(10**18)),
        ("+1Ki", Fraction(1024)),
    ],
)
def test_a_quantity_is_an_exact_number(text: object, number: Fraction) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gb", "-1", "1e", "one", None, True, [], "1e999"], ids=repr)
def test_anything_else_is_none(text: object) -> None:
    assert parse_quantity(text) is None


def test_bytes_are_written_in_whole_mi() -> None:
    assert [format_bytes(Fraction(number)) for number in (2**20, 2**20 + 1, 5)] == ["1Mi", "2Mi", "5"]
