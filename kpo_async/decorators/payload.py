"""Pack a function and its arguments into environment variables of a pod, with the command that runs them there.

Linux limits each string of a process's environment to 128 KiB, so the payload is spread over several variables. It is a
zip file in base64, because Kubernetes expands `$` in values. All of it is part of the pod, and etcd limits the size of
an object; `LIMIT` stays below. The pod needs no volume and no ConfigMap, so nothing is left behind, and its image needs
only `sh` and Python 3.7 or newer.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from kpo_async.compat import StrEnum
from kpo_async.decorators import pod_entrypoint, unpack
from kpo_async.decorators.source import function_source
from kpo_async.decorators.unpack import PREFIX
from kpo_async.exceptions import ManifestError

PART = 120_000
"""Bytes of a variable's value. The kernel's MAX_ARG_STRLEN (128 KiB) includes the name."""
LIMIT = 1_400_000
"""Bytes of all parts. etcd accepts requests of 1.5 MiB, and the rest of the pod and its status must fit as well."""
PICKLE_PROTOCOL = 4
"""The newest protocol that Python 3.7 reads."""


class Serializer(StrEnum):
    """How arguments are serialized. All but pickle must be installed on the worker and in the image."""

    PICKLE = "pickle"
    CLOUDPICKLE = "cloudpickle"
    DILL = "dill"


@dataclass(frozen=True)
class Payload:
    """Command and environment of the base container."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def pack(
    function: Callable[..., Any],
    args: Collection[Any],
    kwargs: Mapping[str, Any],
    *,
    serializer: Serializer = Serializer.PICKLE,
    result: str | None = None,
) -> Payload:
    """Return the payload that calls `function(*args, **kwargs)` in a pod. The same input gives the same payload.

    `result` is the path in the pod that the return value is written to as JSON. Raises `ManifestError` when the
    function has no source that can be sent, an argument cannot be pickled, or the payload is too large for a pod.
    """
    source = function_source(function)
    pickled = _pickle(function, args, kwargs, serializer) if args or kwargs else None
    call = {
        "name": source.name,
        "file": source.file,
        "serializer": serializer.value if pickled is not None else None,
        "result": result,
    }
    content = {
        "pod_entrypoint.py": inspect.getsource(pod_entrypoint).encode(),
        "function.py": source.text.encode(),
        "call.json": json.dumps(call).encode(),
        "arguments": pickled or b"",
    }
    text = base64.b64encode(_zip(content)).decode()
    if len(text) > LIMIT:
        raise ManifestError(
            f"{source.name}: its source ({len(source.text):,} bytes) and its arguments ({len(pickled or b''):,} bytes) "
            f"make {len(text):,} bytes when packed, and a pod can carry {LIMIT:,}. Pass large data by reference: "
            "an object store, a database, a volume"
        )
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    environment = {f"{PREFIX}_PARTS": str(len(parts))}
    environment.update({f"{PREFIX}_{number}": part for number, part in enumerate(parts)})
    find_python = files(__package__).joinpath("find_python.sh").read_text(encoding="utf-8")
    return Payload(("sh", "-c", find_python, inspect.getsource(unpack)), environment)


def _pickle(
    function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any], serializer: Serializer
) -> bytes:
    try:
        module = importlib.import_module(serializer.value)
    except ModuleNotFoundError:
        raise ManifestError(f"serializer={serializer.value!r} is not installed on this worker") from None
    try:
        with _by_value(module, function) if serializer is Serializer.CLOUDPICKLE else nullcontext():
            pickled: bytes = module.dumps((list(args), dict(kwargs)), protocol=PICKLE_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"the arguments of {function.__name__} cannot be sent to a pod: {error}. Pass plain values, or use "
            "serializer='cloudpickle' with cloudpickle in the image"
        ) from error
    return pickled


@contextmanager
def _by_value(cloudpickle: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Pickle classes of the DAG file by value: its module does not exist in the pod."""
    module = sys.modules.get(function.__module__)
    if module is None or function.__module__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _zip(content: Mapping[str, bytes]) -> bytes:
    """Return a zip file that depends only on its content: it holds no time and no owner."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()
