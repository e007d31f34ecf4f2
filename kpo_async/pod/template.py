"""Read a `pod_template_file`. This blocks."""

from __future__ import annotations

import os
from typing import Any

import yaml

from kpo_async.exceptions import ManifestError
from kpo_async.pod.schema import Warn

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_template_file(path: str, warn: Warn) -> Any:
    """Return the content of the YAML file at `path`; None, after a warning, if it does not exist.

    Raise ManifestError if it cannot be read, is not valid YAML, or holds several documents.
    """
    if not os.path.exists(path):
        warn(f"pod_template_file {path} does not exist on this machine, the pod is built without it")
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.load(stream, Loader=_Loader)  # a safe loader, see above
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ManifestError(f"pod_template_file {path} cannot be used: {error}") from error
