"""Lines that a task's log shows more than once."""

from __future__ import annotations

import re
from collections.abc import Iterable

SAYS_SO = "are repeated"
"""In the sentence that precedes lines which may have been shown before."""


def unannounced_repeats(log: Iterable[str], line: re.Pattern[str]) -> list[str]:
    """Return the lines that `log` shows again though no sentence since then has said so.

    `log`: the texts of its records, ordered by time. `line`: what the lines of pods look like; no two are the same.
    """
    repeated: list[str] = []
    shown: set[str] = set()
    for record in log:
        for text in record.splitlines():
            if SAYS_SO in text:
                shown.clear()
            elif line.search(text):
                repeated += [text] if text in shown else []
                shown.add(text)
    return repeated
