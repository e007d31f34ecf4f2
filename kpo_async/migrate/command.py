"""The subcommand: find the files, print the diff, write only with `--write`, report what it left.

The diff goes to stdout, so that `git apply` can read it; everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kpo_async.migrate.rules import KEPT

if TYPE_CHECKING:
    from kpo_async.migrate.rewrite import Finding

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages"})
MARKERS = (b"kubernetes", b"GKE", b"Eks")
"""A file without any of these has nothing to convert, so it is not parsed."""


class Exit(IntEnum):
    """Exit codes of the command."""

    DONE = 0
    """Everything was converted, or there was nothing to convert."""
    LEFTOVERS = 1
    """Something is left to change by hand, and was reported."""
    USAGE = 2
    """A path does not exist, a file cannot be read, or libcst is not installed."""


EPILOG = "Exit codes: 0 all converted, 1 something is left to change by hand, 2 nothing could be done."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `run` reads."""
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a DAG file, or a folder of them")
    parser.add_argument("--write", action="store_true", help="change the files (without it, only show the diff)")
    parser.add_argument(
        "--decorators", action="store_true", help="also rename @task.kubernetes to @task.kubernetes_async"
    )


def run(arguments: argparse.Namespace) -> int:
    """Migrate the paths in `arguments` and return the exit code."""
    try:
        from kpo_async.migrate.rewrite import rewrite
    except ModuleNotFoundError as error:
        _say(f"kpo-async migrate needs {error.name}: pip install 'kpo-async[migrate]'")
        return Exit.USAGE
    from libcst import ParserSyntaxError

    changed = left = 0
    for path in _python_files(arguments.paths):
        try:
            before = path.read_bytes()
            if not any(marker in before for marker in MARKERS):
                continue
            result = rewrite(before, decorators=arguments.decorators)
        except OSError as error:
            _say(f"{path}: {error.strerror}")
            return Exit.USAGE
        except (ParserSyntaxError, SyntaxError, UnicodeDecodeError) as error:  # the latter two come from its encoding
            line = f":{error.editor_line}" if isinstance(error, ParserSyntaxError) else ""
            _say(f"{path}{line}: is not valid Python; not changed")
            left += 1
            continue
        if result.source != before:
            changed += 1
            sys.stdout.write(diff(path, before, result.source))
            if arguments.write:
                path.write_bytes(result.source)
        left += _report(path, result.findings)
    verb = "changed" if arguments.write else "would change (--write does it)"
    _say(f"{changed} file(s) {verb}; {left} place(s) left to change by hand.")
    return Exit.LEFTOVERS if left else Exit.DONE


def diff(path: Path, before: bytes, after: bytes) -> str:
    """Return a unified diff for `git apply` or `patch -p1`."""
    old, new = (text.decode("utf-8", "surrogateescape").splitlines(keepends=True) for text in (before, after))
    name = path.as_posix().lstrip("/")
    lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _python_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files to migrate, in order. A file given by name is yielded whatever its suffix."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for found in sorted(path.rglob("*.py")):
            folders = found.relative_to(path).parts[:-1]
            if found.is_file() and not any(folder in SKIPPED_FOLDERS or folder.startswith(".") for folder in folders):
                yield found


def _report(path: Path, findings: tuple[Finding, ...]) -> int:
    """Print the findings; return how many must be changed by hand."""
    for finding in findings:
        _say(f"{path}:{finding.line}: {finding.what}: {finding.reason}")
    return sum(finding.reason != KEPT for finding in findings)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
