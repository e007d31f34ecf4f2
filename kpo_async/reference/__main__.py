"""`python -m kpo_async.reference`: write the page, or with `--check` only say whether it is current."""

from __future__ import annotations

import sys

from kpo_async.reference.page import PATH, render


def main(arguments: list[str]) -> int:
    """0 when the page is, or now is, what the code says; 1 when `--check` found it to be another."""
    page = render()
    if "--check" in arguments:
        current = PATH.exists() and PATH.read_text(encoding="utf-8") == page
        print(f"{PATH} is {'current' if current else 'not current: run python -m kpo_async.reference'}")
        return 0 if current else 1
    PATH.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
