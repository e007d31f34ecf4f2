"""Cuts one function's text out of the file it is in. Pure; no Airflow, nothing is imported or run.

What the pod gets is the function as it is written, without the decorators that made it a task: those are known by where
they stand, not by their names, so an alias or a factory of the user's own is as good as `@task.kubernetes_async`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kpo_async.exceptions import ManifestError


@dataclass(frozen=True)
class FunctionSource:
    """A function's source as the only code of a file whose lines have the numbers of the original one."""

    name: str
    file: str
    text: str


def function_source(function: Callable[..., Any]) -> FunctionSource:
    """The source of `function`, which is what the task decorator was applied to.

    Raises ManifestError when there is none (a lambda, a builtin), or when the function needs variables of another one.
    """
    inner, kept = _unwrap(function)
    try:
        lines, first = inspect.getsourcelines(inner)
    except (OSError, TypeError) as error:
        raise ManifestError(f"{_describe(function)} has no source to send to a pod: {error}") from None
    indented = lines[0][:1].isspace()
    definition = _definition(lines, indented, function)
    if free := inner.__code__.co_freevars:
        raise ManifestError(
            f"{_describe(function)} uses variables of the function around it ({', '.join(free)}), which a pod does not "
            "have: pass them as arguments, or define them inside of it"
        )
    stays = definition.decorator_list[-kept:] if kept else []
    start = (stays[0] if stays else definition).lineno - indented - 1
    # Line numbers start at 1, and the block that an indented function needs takes the line before it.
    above = "\n" * (first - 1 + start)
    if indented:
        above = above[:-1] + "if True:\n"
    return FunctionSource(definition.name, inspect.getsourcefile(inner) or "<dag>", above + "".join(lines[start:]))


def _unwrap(function: Callable[..., Any]) -> tuple[Any, int]:
    """The innermost function, and how many decorators are between it and `function`: these belong to it and stay."""
    kept = 0
    inner: Any = function
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
        kept += 1
    return inner, kept


def _definition(
    lines: list[str], indented: bool, function: Callable[..., Any]
) -> ast.FunctionDef | ast.AsyncFunctionDef:
    text = "".join(lines)
    try:
        statement = ast.parse(f"if True:\n{text}" if indented else text).body[0]
    except SyntaxError:  # a lambda within a larger expression
        statement = ast.Pass()
    if indented and isinstance(statement, ast.If):
        statement = statement.body[0]
    if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise ManifestError(f"{_describe(function)} is not defined by `def`: a pod needs a function with a source")
    return statement


def _describe(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
