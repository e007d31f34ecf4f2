"""A record fits into one atomic write as JSON, and Airflow's page shows what is in it."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.logs.lines import CONTINUED, LogLine
from kpo_async.logs.plan import line_format
from kpo_async.logs.records import RECORD_BYTES, Piece, fits, json_size, next_size, pieces, record_of, split

PLAIN = line_format(prefix=False)


def line(text: str) -> LogLine:
    return LogLine("base", "2026-11-21T09:00:00.0Z", text)


def batches(texts: list[str], limit: int = RECORD_BYTES) -> list[list[Piece]]:
    """The pieces of the texts' lines in as few records as possible, as an emitter makes them."""
    found: list[list[Piece]] = [[]]
    size = 0
    for piece in (piece for text in texts for piece in pieces(line(text), PLAIN)):
        if not fits(piece, found[-1], size, limit):
            found.append([])
            size = 0
        found[-1].append(piece)
        size = next_size(size, piece)
    return found


@given(st.lists(st.text(max_size=50).map(lambda text: text * 300), min_size=1, max_size=8))
def test_no_record_is_larger_than_its_limit_as_json(texts: list[str]) -> None:
    for batch in batches(texts):
        assert len(msgspec.json.encode(record_of(batch).text)) - 2 <= RECORD_BYTES


@pytest.mark.parametrize("letter", ["x", "\x00", '"', "\\", "\u00fc", "\U0001f600", "\ud800"], ids=ascii)
def test_a_line_of_any_letters_is_cut_into_pieces_that_fit_and_add_up(letter: str) -> None:
    found = list(pieces(line(letter * 64 * 1024), PLAIN))
    assert all(piece.size == json_size(piece.text) <= RECORD_BYTES for piece in found)
    assert "".join(piece.text.strip(CONTINUED) for piece in found) == letter * 64 * 1024
    assert all(piece.text.endswith(CONTINUED) for piece in found[:-1])
    assert [piece.line is not None for piece in found] == [False] * (len(found) - 1) + [True]


def test_what_a_formatter_adds_is_measured_too() -> None:
    found = list(pieces(line("x" * 1000), lambda container, text: text * 100))
    assert all(piece.size <= RECORD_BYTES for piece in found)
    assert sum(len(piece.text.strip(CONTINUED)) for piece in found) == 100_000


def test_a_record_holds_lines_of_one_level() -> None:
    found = batches([*["x"] * 3, *["ERROR y"] * 3, *["x"] * 3])
    assert [(record_of(batch).level, len(batch)) for batch in found] == [
        (logging.INFO, 3),
        (logging.ERROR, 3),
        (logging.INFO, 3),
    ]


def test_a_line_with_a_group_marker_is_a_record_of_its_own_in_order() -> None:
    texts = [
        "one",
        "two",
        "::group::Details",
        "a",
        "b",
        "  ::endgroup:: and more",
        "::group::",
        "::endgroup::",
        "three",
    ]
    assert [record_of(batch).text for batch in batches(texts)] == [
        "one\ntwo",
        "::group::Details",
        "a\nb",
        "  ::endgroup:: and more",
        "::group::",
        "::endgroup::",
        "three",
    ]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(lambda text: text * 100), max_size=8)
)
def test_a_text_of_many_lines_is_split_into_texts_that_fit(texts: list[str]) -> None:
    text = "\n".join(texts)
    parts = list(split(text))
    assert all(json_size(part) <= RECORD_BYTES for part in parts)
    assert "".join("".join(part.splitlines()) for part in parts) == "".join(text.splitlines())
