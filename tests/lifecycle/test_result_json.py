"""A result that Airflow cannot store is an error that names the value and its place; any other result is its value."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.lifecycle.result_json import load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "NaN at $"),
        ('{"loss": [1, {"epoch 3": NaN}]}', 'NaN at $.loss[1]["epoch 3"]'),
        ("[1, 2, Infinity, NaN]", "Infinity at $[2]"),
        ('{"a": -Infinity}', "-Infinity at $.a"),
        ('{"a": 1e999}', "Infinity at $.a"),
        ('{"a": -1e+999}', "-Infinity at $.a"),
        ("[" + "9" * 400 + ".5]", "Infinity at $[0]"),
        ('{"id": 18446744073709551616}', "an integer of more than 64 bits at $.id"),
        ('["ok", "\\ud83d"]', "half a surrogate pair at $[1]"),
        ('{"\\uDC00": 1}', 'a key with half a surrogate pair at $["\\udc00"]'),
    ],
)
def test_a_value_that_airflow_cannot_store_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="write null or text instead") as caught:
        load(text)
    assert str(caught.value) == f"{message}; write null or text instead"


@pytest.mark.parametrize(
    "text",
    [
        '"NaN"',
        '["\\ud83d\\ude00", "\\\\ud83d", "1e999"]',
        "1e308",
        "18446744073709551615",
        "-9223372036854775808",
        "1E-999",
    ],
)
def test_text_that_only_looks_like_such_a_value_is_a_result(text: str) -> None:
    assert load(text) == json.loads(text)


NUMBERS = st.one_of(
    st.floats(), st.integers(), st.sampled_from([2**63, 2**64, -(2**63) - 1, 1e308, float("inf"), float("nan")])
)
TEXTS = st.text(st.characters(exclude_categories=[]), max_size=4)
VALUES = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=8,
)


@given(VALUES, st.booleans())
def test_exactly_what_airflow_cannot_send_is_refused(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    if not ascii_only:
        text = text.encode(errors="replace").decode()  # a file of UTF-8 has no half pair except as an escape
    parsed = json.loads(text)
    if storable(parsed):
        assert load(text) == parsed
    else:
        with pytest.raises(ValueError, match="write null or text instead"):
            load(text)


def storable(value: Any) -> bool:
    """Whether a task's supervisor (msgpack) and Airflow's API (JSON) take the value."""
    try:
        msgspec.msgpack.encode(value)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, OverflowError):
        return False
    return True
