"""The kubeconfig with which clients connect to the cluster."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from kpo_async.localcluster.store.objects import Object

NAME = "kpo-async-local"


def document(url: str, token: str, certificate: Path | None = None, namespace: str = "default") -> Object:
    """Return a kubeconfig with one cluster, one user and one context."""
    cluster: Object = {"server": url}
    if certificate is not None:
        cluster["certificate-authority"] = str(certificate)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": {"token": token}}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
        "current-context": NAME,
    }


def write(path: Path, content: Object) -> None:
    """Write a kubeconfig atomically, with mode 0600, because it contains a token."""
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)
    part.replace(path)
