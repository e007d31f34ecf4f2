"""A copy of this virtual environment without some distributions, made of links."""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path


def environment_without(name: str, folder: Path) -> Path:
    """Create an environment in `folder` without the distribution, and return its Python."""
    removed = distribution(name)
    base = Path(str(removed.locate_file(""))).resolve()
    hidden = {path.parts for path in (Path(str(file)) for file in removed.files or ())}
    hidden |= {parts[:1] for parts in hidden if parts[0].endswith(".dist-info")}
    packages = folder / base.relative_to(Path(sys.prefix).resolve())
    _link(base, packages, (), {parts[:depth] for parts in hidden for depth in range(1, len(parts) + 1)}, hidden)
    (folder / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    return python


def _link(
    source: Path, target: Path, at: tuple[str, ...], touched: set[tuple[str, ...]], hidden: set[tuple[str, ...]]
) -> None:
    """Link the entries of a folder; one that holds hidden files is made anew, of what else is in it."""
    target.mkdir(parents=True)
    for entry in source.iterdir():
        parts = (*at, entry.name)
        if parts in hidden or entry.name == "__pycache__":
            continue
        if parts in touched and entry.is_dir():
            _link(entry, target / entry.name, parts, touched, hidden)
        else:
            (target / entry.name).symlink_to(entry)
