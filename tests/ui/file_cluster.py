"""A `cluster_hook`, for triggerers to import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class FileCluster:
    """Finds the cluster of a kubeconfig."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get_kubeconfig(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(Path(self._path).read_text())
        return found
