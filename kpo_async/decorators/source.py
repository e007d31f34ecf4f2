"""Cut one function's text out of its file. Pure: this knows nothing of Airflow, and imports and runs nothing.

The pod gets the function as it is written, without the decorators that made it a task. Their position identifies them,
not their name, so an alias or a user's own factory works as well as `@task.kubernetes_async`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from kpo_async.exceptions import ManifestError
from kpo_async.json_types import Json


@dataclass(frozen=True)
class FunctionSource:
    """A function's source, padded so that its lines have the numbers of the original file."""

    name: str
    file: str
    text: str


class SentFunction:
    """A function in a process that has not imported its file: a source and a signature. It cannot be called there."""

    def __init__(self, source: FunctionSource, signature: inspect.Signature) -> None:
        self.source = source
        self.__name__ = source.name
        self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise `TypeError`. Airflow wants a callable."""
        raise TypeError(f"{self.__name__} runs in a pod only")


def send(function: Callable[..., Any]) -> Json:
    """Return the function's source and signature as JSON. Raises `ManifestError` as `function_source` does."""
    source = function_source(function)
    parameters = [
        [name, parameter.kind.name, parameter.default is not parameter.empty]
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    return {**asdict(source), "parameters": parameters}


def receive(sent: Json) -> SentFunction:
    """Return the function that `send` was given. Defaults in its signature are None: its source has the real ones."""
    parameters = [
        inspect.Parameter(name, getattr(inspect.Parameter, kind), default=None if optional else inspect.Parameter.empty)
        for name, kind, optional in sent["parameters"]
    ]
    source = FunctionSource(sent["name"], sent["file"], sent["text"])
    return SentFunction(source, inspect.Signature(parameters))


def function_source(function: Callable[..., Any]) -> FunctionSource:
    """Return the source of `function`, the one that the task decorator was applied to.

    Raises `ManifestError` when it has none (a lambda, a builtin), or uses variables of the function around it.
    """
    if isinstance(function, SentFunction):
        return function.source
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
    decorators = definition.decorator_list[-kept:] if kept else []
    start = (decorators[0] if decorators else definition).lineno - indented - 1
    # Line numbers start at 1. An indented function needs a block, whose first line is the line above it.
    above = "\n" * (first - 1 + start)
    if indented:
        above = above[:-1] + "if True:\n"
    return FunctionSource(definition.name, inspect.getsourcefile(inner) or "<dag>", above + "".join(lines[start:]))


def _unwrap(function: Callable[..., Any]) -> tuple[Any, int]:
    """Return the innermost function, and how many decorators between it and `function` belong to it and are kept."""
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
    except SyntaxError:  # a lambda inside a larger expression
        statement = ast.Pass()
    if indented and isinstance(statement, ast.If):
        statement = statement.body[0]
    if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        raise ManifestError(f"{_describe(function)} is not defined by `def`: a pod needs a function with a source")
    return statement


def _describe(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
