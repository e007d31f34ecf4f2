"""Where the cluster is and who we are there.

`ClusterSource` is what a connection or an operator says; `load` turns it into a `ClusterConfig`, the one value a client
is made from. Files are read in a thread. Nothing process-global is touched.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kpo_async.exceptions import ConfigError
from kpo_async.kube.credentials import ClientCertificate, FileUser, StaticUser, User

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class ClusterSource:
    """How to find the cluster. At most one of `in_cluster`, `config_file` and `config_dict`."""

    in_cluster: bool | None = None
    config_file: str | None = None
    config_dict: Mapping[str, Any] | None = field(default=None, repr=False)
    context: str | None = None
    verify_ssl: bool = True
    ca_cert: str | None = None
    tcp_keepalive: bool = True


@dataclass(frozen=True)
class ClusterConfig:
    """One API server and one identity on it."""

    server: str
    namespace: str = "default"
    user: User = field(default_factory=StaticUser)
    ca_data: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    tcp_keepalive: bool = True
    identity: str = ""


async def load(source: ClusterSource) -> ClusterConfig:
    """The cluster that `source` names. Raises `ConfigError`."""
    return await asyncio.to_thread(_load, source)


def _load(source: ClusterSource) -> ClusterConfig:
    if source.config_dict is not None:
        return _from_kubeconfig(source.config_dict, Path.cwd(), source)
    path = source.config_file or os.environ.get("KUBECONFIG") or "~/.kube/config"
    file = Path(path).expanduser()
    if not file.exists():
        raise ConfigError(f"no kubeconfig at {file} on host {socket.gethostname()}")
    return _from_kubeconfig(yaml.load(file.read_bytes(), yaml.CSafeLoader), file.parent, source)


def _from_kubeconfig(document: Mapping[str, Any], base: Path, source: ClusterSource) -> ClusterConfig:
    contexts = {entry["name"]: entry["context"] for entry in document["contexts"]}
    context = contexts[source.context or document["current-context"]]
    cluster = {entry["name"]: entry["cluster"] for entry in document["clusters"]}[context["cluster"]]
    user = {entry["name"]: entry["user"] for entry in document["users"]}[context["user"]]
    ca = _material(cluster, "certificate-authority", base)
    certificate = _material(user, "client-certificate", base)
    key = _material(user, "client-key", base)
    pair = ClientCertificate(certificate, key) if certificate and key else None
    who: User
    if user.get("tokenFile"):
        who = FileUser(str(base / user["tokenFile"]))
    else:
        who = StaticUser(user.get("token", ""), user.get("username", ""), user.get("password", ""), pair)
    return ClusterConfig(
        server=cluster["server"],
        namespace=context.get("namespace", "default"),
        user=who,
        ca_data=ca.decode() if ca else None,
        verify_ssl=source.verify_ssl and not cluster.get("insecure-skip-tls-verify", False),
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        tcp_keepalive=source.tcp_keepalive,
        identity=hashlib.blake2b(repr((cluster, user)).encode(), digest_size=16).hexdigest(),
    )


def _material(section: Mapping[str, Any], name: str, base: Path) -> bytes | None:
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data)
    if path := section.get(name):
        return (base / path).read_bytes()
    return None
