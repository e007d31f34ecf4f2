"""Runs a task's function inside its pod. Travels there as text: Python 3.7, the standard library, nothing of kpo_async.

`run` is called with the parcel that `parcel.pack` made: the function's source, padded with empty lines so that
tracebacks name the lines of the DAG file, its pickled arguments, and what to do with the result.
"""

from __future__ import annotations
import __future__

import asyncio
import importlib
import inspect
import json
import linecache
import sys
import traceback
import zipfile
from collections.abc import Callable
from typing import Any, NoReturn

TYPES_STAY_TEXT = __future__.annotations.compiler_flag
"""Type hints are not evaluated: what they name in the DAG file need not exist in the image."""


def run(parcel: zipfile.ZipFile) -> None:
    """Call the function and leave its result for XCom. Exits with 1 after showing the traceback of what went wrong."""
    order = json.loads(parcel.read("order.json").decode())
    try:
        function = load_function(parcel.read("function.py").decode(), order["file"], order["name"])
        args, kwargs = load_arguments(parcel, order["serializer"])
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except Exception as error:
        fail(error)
    if order["result"] is not None:
        write_result(order["result"], result)


def load_function(source: str, file: str, name: str) -> Callable[..., Any]:
    """Define the function in `__main__`, as a script would have it."""
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = vars(sys.modules["__main__"])
    exec(compile(source, file, "exec", flags=TYPES_STAY_TEXT, dont_inherit=True), namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def load_arguments(parcel: zipfile.ZipFile, serializer: str | None) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the worker pickled them. None were given when there is no serializer."""
    if serializer is None:
        return [], {}
    try:
        args, kwargs = importlib.import_module(serializer).loads(parcel.read("arguments"))
    except ImportError as error:
        say(f"the task's arguments cannot be unpickled in this image, which lacks {error.name!r}")
        raise
    return args, kwargs


def write_result(path: str, result: Any) -> None:
    """Write the result in place: the volume is the sidecar's too. Nothing is pushed for None, as for an empty file."""
    try:
        text = "" if result is None else json.dumps(result)
    except (TypeError, ValueError) as error:
        say(f"the function's result ({type(result).__name__}) cannot be an XCom: {error}")
        sys.exit(1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def fail(error: Exception) -> NoReturn:
    """Show the traceback from the function's own frame on, and exit."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
    if isinstance(error, NameError):
        say("only the function itself is in the pod: import and define what it needs inside of it")
    sys.exit(1)


def say(text: str) -> None:
    """One line for the task's log."""
    sys.stderr.write(f"kpo_async: {text}\n")
