"""Kubeconfigs for tests, and how to write them down."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]


def kubeconfig(*, cluster: Json | None = None, user: Json | None = None, context: Json | None = None) -> Json:
    """A kubeconfig with one context, `main`."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **(context or {})}}],
    }


def write(path: Path, document: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return str(path)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
