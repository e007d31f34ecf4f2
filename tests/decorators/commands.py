"""Functions that return commands, in a module that a triggerer can import."""

from __future__ import annotations


def listing(folder: str, run_id: str | None = None) -> list[str]:
    """List a folder, and say for which run."""
    return ["sh", "-c", f"ls -d {folder}; echo {run_id}"]
