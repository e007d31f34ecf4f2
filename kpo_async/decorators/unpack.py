"""Unpack the payload and run its entrypoint. The pod gets this file as text: Python 3.7, standard library only."""

from __future__ import annotations

import base64
import io
import os
import zipfile
from typing import Any

PREFIX = "KPO_ASYNC_PAYLOAD"
"""Environment variables with the payload: `PREFIX_PARTS` is the number of parts, `PREFIX_0` the first of them."""


def main() -> None:
    """Remove the payload from the environment, which the function inherits, and run it."""
    count = int(os.environ.pop(f"{PREFIX}_PARTS"))
    parts = [os.environ.pop(f"{PREFIX}_{part}") for part in range(count)]
    payload = zipfile.ZipFile(io.BytesIO(base64.b64decode("".join(parts))))
    entrypoint: dict[str, Any] = {"__name__": "kpo_async_pod_entrypoint", "__file__": "<kpo_async>"}
    exec(compile(payload.read("pod_entrypoint.py"), "<kpo_async>", "exec"), entrypoint)
    entrypoint["run"](payload)


if __name__ == "__main__":
    main()
