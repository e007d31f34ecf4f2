"""Write the options of all commands into `docs/commands.md`: `python -m scripts.commands [--check]`.

They come from the commands' own parsers. A test checks that the page is current.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from kpo_async.cli import COMMANDS, Command

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
MARKS = "<!-- options: written by `python -m scripts.commands` -->\n", "<!-- end of options -->\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` only compare it. Return 0 if it is current, 1 if `--check` found that not."""
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    if "--check" not in arguments:
        PAGE.write_text(after, encoding="utf-8")
        return 0
    if before != after:
        print(f"{PAGE} is not current: run python -m scripts.commands")
    return int(before != after)


def page(text: str) -> str:
    """Return the page with the current options."""
    begin, end = MARKS
    sections = "\n".join(map(_section, COMMANDS))
    return re.sub(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n{sections}\n{end}", text, flags=re.DOTALL
    )


def _section(command: Command) -> str:
    parser = argparse.ArgumentParser(prog=f"kpo-async {command.name}")
    command.load().add_arguments(parser)
    rows = "".join(f"| {cells} |\n" for cells in _rows(parser))
    return f"### {command.name}\n\n{command.help[0].upper()}{command.help[1:]}.\n\n| Option | |\n|---|---|\n{rows}"


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if action.dest == "help":
            continue
        names = ", ".join(action.option_strings) or str(action.metavar or action.dest).replace("|", "\\|")
        value = "" if action.nargs == 0 or not action.option_strings else f" {_value(action)}"
        # A path is the writer's own.
        default = action.default.name if isinstance(action.default, Path) else action.default
        text = (action.help or "").replace("%(default)s", str(default))
        yield f"`{names}{value}` | {text}"


def _value(action: argparse.Action) -> str:
    """Return what stands for an option's value."""
    if action.choices is not None:
        return "\\|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
