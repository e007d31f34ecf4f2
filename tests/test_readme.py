"""The README agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.differences import AT_RUN_TIME, DIFFERENCES

README = Path(__file__).parents[1] / "README.md"
ROWS = "\n".join(f"| {row.name} | {row.incumbent} | {row.here} |" for row in DIFFERENCES + AT_RUN_TIME)
TABLE = f"| | incumbent | kpo-async |\n|---|---|---|\n{ROWS}\n"


def test_the_table_of_differences_is_the_one_the_parity_test_allows() -> None:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"<!-- differences.*?-->\n(.*)<!-- end of differences -->", text, re.DOTALL)
    assert found
    assert found[1] == TABLE


def test_the_readme_is_shorter_than_150_lines() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150
