"""Lines that a task's log shows more than once."""

from __future__ import annotations

import re
from collections.abc import Iterable

SAYS_SO = "are repeated"
"""In the sentence that precedes lines which may have been shown before."""
CREATED = re.compile(r"^Created pod \S+/(\S+)$")
"""The record of a new pod. Its name follows from the try and the attempt, so that it may be that of a deleted pod."""


def unannounced_repeats(log: Iterable[str], line: re.Pattern[str]) -> list[str]:
    """Return the lines that `log` shows again though no sentence since then has said so.

    `log`: the texts of its records, ordered by time. `line`: what the lines of pods look like. No two are the same, so
    those of a task with several pods contain the name of their pod.
    """
    repeated: list[str] = []
    shown: set[str] = set()
    for record in log:
        for text in record.splitlines():
            if SAYS_SO in text:
                shown.clear()
            elif created := CREATED.match(text):
                shown = {other for other in shown if created[1] not in other}
            elif line.search(text):
                repeated += [text] if text in shown else []
                shown.add(text)
    return repeated
