"""A function and its arguments as environment variables of a pod, and the command that runs them there.

Linux takes no string over 128 KiB in a process's environment, so the parcel (a zip file, in base64 because Kubernetes
expands `$` in values) is spread over several. All of it is part of the pod, which etcd limits; `LIMIT` stays below.
No volume, no ConfigMap, no right to create one, nothing left behind. The image needs `sh` and a Python, 3.7 or newer.
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
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kpo_async.compat import StrEnum
from kpo_async.decorators import pod_entrypoint as in_pod
from kpo_async.decorators.source import function_source
from kpo_async.exceptions import ManifestError

PREFIX = "KPO_ASYNC_PARCEL"
PART = 120_000
"""Bytes of a variable's value; the kernel's MAX_ARG_STRLEN (128 KiB) counts the name too."""
LIMIT = 1_400_000
"""Bytes of all parts: etcd takes requests of 1.5 MiB, and the rest of the pod and its status must fit as well."""
PICKLE_PROTOCOL = 4
"""The newest that Python 3.7 reads."""

_UNPACK = f"""\
import base64, io, os, zipfile
parts = [os.environ.pop("{PREFIX}_%d" % part) for part in range(int(os.environ.pop("{PREFIX}_PARTS")))]
parcel = zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(parts))))
script = {{"__name__": "kpo_async_in_pod", "__file__": "<kpo_async>"}}
exec(compile(parcel.read("in_pod.py"), "<kpo_async>", "exec"), script)
script["run"](parcel)
"""
_FIND_PYTHON = """\
for python in python3 python; do command -v $python >/dev/null 2>&1 && exec $python -u -c "$0"; done
echo "kpo_async: this image has no python3 and no python" >&2; exit 127"""


class Serializer(StrEnum):
    """How arguments travel. All but pickle must be installed in the image as on the worker."""

    PICKLE = "pickle"
    CLOUDPICKLE = "cloudpickle"
    DILL = "dill"


@dataclass(frozen=True)
class Parcel:
    """What the base container is started with."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def pack(
    function: Callable[..., Any],
    args: Collection[Any],
    kwargs: Mapping[str, Any],
    *,
    serializer: Serializer = Serializer.PICKLE,
    result: str | None = None,
) -> Parcel:
    """`function(*args, **kwargs)` as a parcel. `result`: the file in the pod that its return value is written to.

    The same input makes the same parcel. Raises ManifestError when the function has no source that could be sent, when
    an argument cannot be pickled, or when all of it is too large for a pod.
    """
    source = function_source(function)
    pickled = _pickle(function, args, kwargs, serializer) if args or kwargs else None
    order = {
        "name": source.name,
        "file": source.file,
        "serializer": serializer.value if pickled is not None else None,
        "result": result,
    }
    files = {
        "in_pod.py": inspect.getsource(in_pod).encode(),
        "function.py": source.text.encode(),
        "order.json": json.dumps(order).encode(),
        "arguments": pickled or b"",
    }
    text = base64.b64encode(_zip(files)).decode()
    if len(text) > LIMIT:
        raise ManifestError(
            f"{source.name}: its source ({len(source.text):,} bytes) and its arguments ({len(pickled or b''):,} bytes) "
            f"make {len(text):,} bytes when packed, and a pod can carry {LIMIT:,}. Pass large data by reference: "
            "an object store, a database, a volume"
        )
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    environment = {f"{PREFIX}_PARTS": str(len(parts))}
    environment.update({f"{PREFIX}_{number}": part for number, part in enumerate(parts)})
    return Parcel(("sh", "-c", _FIND_PYTHON, _UNPACK), environment)


def _pickle(
    function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any], serializer: Serializer
) -> bytes:
    try:
        module = importlib.import_module(serializer.value)
    except ModuleNotFoundError:
        raise ManifestError(f"serializer={serializer.value!r} is not installed on this worker") from None
    try:
        with _by_value(module, function) if serializer is Serializer.CLOUDPICKLE else _nothing():
            pickled: bytes = module.dumps((list(args), dict(kwargs)), protocol=PICKLE_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"the arguments of {function.__name__} cannot be sent to a pod: {error}. Pass plain values, or use "
            "serializer='cloudpickle' with cloudpickle in the image"
        ) from error
    return pickled


@contextmanager
def _by_value(cloudpickle: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Classes of the DAG file are sent whole: its module does not exist in the pod."""
    module = sys.modules.get(function.__module__)
    if module is None or function.__module__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _zip(files: Mapping[str, bytes]) -> bytes:
    """A zip file that depends on nothing but its content: no time, no owner."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()
