"""Call a task's function inside its pod. The pod gets this file as text: Python 3.7, standard library only.

`unpack` calls `run` with the payload that `payload.pack` made. The payload holds the function's source, padded with
empty lines so that tracebacks show the line numbers of the DAG file, its pickled arguments, and the path for its
result.
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

KEEP_ANNOTATIONS_AS_TEXT = __future__.annotations.compiler_flag
"""Type hints are not evaluated: their names in the DAG file need not exist in the image."""


def run(payload: zipfile.ZipFile) -> None:
    """Call the function and write its result for XCom. Exit with 1 after an error, with its traceback in the log."""
    call = json.loads(payload.read("call.json").decode())
    try:
        function = load_function(payload.read("function.py").decode(), call["file"], call["name"])
        args, kwargs = load_arguments(payload, call["serializer"])
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except Exception as error:
        fail(error)
    if call["result"] is not None:
        write_result(call["result"], result)


def load_function(source: str, file: str, name: str) -> Callable[..., Any]:
    """Define the function in `__main__`, as a script would."""
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    namespace = vars(sys.modules["__main__"])
    exec(compile(source, file, "exec", flags=KEEP_ANNOTATIONS_AS_TEXT, dont_inherit=True), namespace)
    function: Callable[..., Any] = namespace[name]
    return function


def load_arguments(payload: zipfile.ZipFile, serializer: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that the worker pickled. Without a serializer there are none."""
    if serializer is None:
        return [], {}
    try:
        args, kwargs = importlib.import_module(serializer).loads(payload.read("arguments"))
    except ImportError as error:
        log(f"the task's arguments cannot be unpickled in this image, which lacks {error.name!r}")
        raise
    return args, kwargs


def write_result(path: str, result: Any) -> None:
    """Write the result as JSON in place, because the sidecar shares the volume. None is an empty file: no XCom."""
    try:
        text = "" if result is None else json.dumps(result)
    except (TypeError, ValueError) as error:
        log(f"the function's result ({type(result).__name__}) cannot be an XCom: {error}")
        sys.exit(1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def fail(error: Exception) -> NoReturn:
    """Print the traceback from the function's own frame on, and exit."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
    if isinstance(error, NameError):
        log("only the function itself is in the pod: import and define what it needs inside of it")
    sys.exit(1)


def log(text: str) -> None:
    """Write one line to the task's log."""
    sys.stderr.write(f"kpo_async: {text}\n")
