"""Send a callable from a worker to the triggerer as its import path, `module:qualname`; nothing is pickled.

A triggerer imports no DAG files, so only callables of an importable module have a path.
"""

from __future__ import annotations

import importlib
import socket
import sys
from typing import Any

from kpo_async.exceptions import ImportPathError

DAG_FILE_PREFIX = "unusual_prefix_"
"""Prefix of the module name under which Airflow imports a DAG file (`get_unique_dag_module_name`)."""


def to_import_path(obj: object) -> str:
    """Return `module:qualname` of a class or function.

    Raises `ImportPathError` for objects that cannot be imported by that path: lambdas, functions inside functions,
    partials, instances, and whatever a DAG file defines.
    """
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not module or not name:
        raise ImportPathError(
            f"{type(obj).__name__} objects have no import path: use a function or a class of a module."
        )
    path = f"{module}:{name}"
    if "<" in name:
        raise ImportPathError(f"{path} exists only while its function runs: define it at the top of a module.")
    if module == "__main__" or module.startswith(DAG_FILE_PREFIX):
        raise ImportPathError(f"{name} is defined in the DAG file: move it to a module that the triggerer can import.")
    if _lookup(sys.modules.get(module), name) is not obj:
        raise ImportPathError(f"{path} is something else when it is imported: give it a name of its own in its module.")
    return path


def from_import_path(path: str) -> Any:
    """Return the object at a path that `to_import_path` returned. Raises `ImportPathError`, which names this host."""
    module, _, name = path.partition(":")
    try:
        found = _lookup(importlib.import_module(module), name)
    except ImportError as error:
        host = socket.gethostname()
        raise ImportPathError(
            f"{path} cannot be imported on host {host}: {error}. Install its module there."
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        raise ImportPathError(
            f"{path} cannot be imported on host {socket.gethostname()}: its module raises {error!r}"[:1024]
        ) from error
    if found is None:
        raise ImportPathError(
            f"Module {module!r} on host {socket.gethostname()} has no {name!r}: is it an older version?"
        )
    return found


def _lookup(module: object, qualname: str) -> Any:
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found
