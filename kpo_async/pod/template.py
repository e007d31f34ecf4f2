"""Reading a `pod_template_file`. Blocking, and where the file is: on the worker, or in a thread of the triggerer."""

from __future__ import annotations

import os
from typing import Any

import yaml

from kpo_async.exceptions import ManifestError
from kpo_async.pod.schema import Warn

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_template_file(path: str, warn: Warn) -> Any:
    """What is in the YAML file at `path`; None, after a warning, when there is no such file.

    Raises ManifestError when it cannot be read, is no YAML, or holds several documents.
    """
    if not os.path.exists(path):
        warn(f"pod_template_file {path} does not exist on this machine, the pod is built without it")
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)  # a safe loader, see above
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"pod_template_file {path} cannot be used: {error}") from error
