"""Tables for people: aligned, without what could steer a terminal, and without rich where that is not installed."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone

import pytest

from kpo_async.commands.table import age, plain, plain_table, print_table, rich_table


def test_a_plain_table_has_aligned_columns_and_no_trailing_spaces() -> None:
    assert (
        plain_table(("pod", "phase"), [("a", "Running"), ("longer", "")]) == "POD      PHASE\na        Running\nlonger"
    )


def test_a_table_is_plain_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.table", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert rich_table(("pod",), [("a",)]) is None
    print_table(("pod",), [("a",)])
    assert capsys.readouterr().out == "POD\na\n"


def test_control_characters_are_shown_as_such() -> None:
    assert plain("a\x1b[2Jb\nc\u202e[bold]") == "a\\x1b[2Jb\\nc\\u202e[bold]"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (3600, "1h0m"), (3 * 86400, "3d"), (-5, "0s")]
)
def test_ages_are_written_as_kubectl_does(seconds: int, shown: str) -> None:
    assert age(datetime.now(timezone.utc) - timedelta(seconds=seconds + 0.1)) == shown
