"""Load the configuration of a cluster: its address, its CA, and the credentials to use.

`ClusterSource` names a cluster, as a connection or an operator does. `load` turns it into a `ClusterConfig`, the one
value that a client needs, from the service account of this pod or from a kubeconfig. Files are read in a thread; no
process-global state is changed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from kpo_async.exceptions import ConfigError
from kpo_async.kube.auth.auth_info import credential_source, impersonation_headers
from kpo_async.kube.auth.credentials import CredentialSource, FileCredentials, StaticCredentials
from kpo_async.kube.auth.kubeconfig import (
    Cluster,
    SelectedContext,
    decode_data,
    read_files,
    read_inline,
    select,
    this_host,
)
from kpo_async.kube.auth.proxy import proxy_from_environment
from kpo_async.kube.shared import SingleFlight

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its service account's `token`, `ca.crt` and `namespace`."""
REQUESTS_PER_SECOND = 100.0
"""By default a kubelet and a scheduler allow themselves 50, and kube-controller-manager 20. Many controllers no longer
have a limit (kubernetes-sigs/controller-runtime#3119), because API servers have a fair one by themselves (API Priority
and Fairness), which gives all service accounts together 245 of 600 requests at once at first. This limit spreads the
start of 1,000 pods over 10 s."""
_DIGEST_KEY = secrets.token_bytes(32)
"""Makes identities useless for guessing at credentials outside this process."""


@dataclass(frozen=True)
class ClusterSource:
    """How to find a cluster.

    Raises `ConfigError` for more than one of `in_cluster`, `config_file` and `config_dict`.
    """

    in_cluster: bool | None = None
    """True: the service account of this pod. False: a kubeconfig. None: whichever of them there is."""
    config_file: str | None = None
    """Path of a kubeconfig on the host where the code runs."""
    config_dict: Mapping[str, Any] | None = field(default=None, repr=False)
    """The content of a kubeconfig."""
    context: str | None = None
    """Name of a context of the kubeconfig, instead of its current one."""
    verify_ssl: bool = True
    ca_cert: str | None = None
    """Path of a CA bundle, instead of the kubeconfig's CA."""
    tcp_keepalive: bool = True
    requests_per_second: float | None = None
    """A limit of the client's own, instead of `REQUESTS_PER_SECOND`."""

    def __post_init__(self) -> None:
        given = {
            "in_cluster": self.in_cluster is True,
            "config_file": self.config_file is not None,
            "config_dict": self.config_dict is not None,
        }
        named = [name for name, is_given in given.items() if is_given]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} are both set, but each names a cluster; keep one of them")

    @property
    def key(self) -> Hashable:
        """Equal for equal sources."""
        inline = None if self.config_dict is None else msgspec.json.encode(self.config_dict)
        where = self.in_cluster, self.config_file, inline, self.context
        return where, self.verify_ssl, self.ca_cert, self.tcp_keepalive, self.requests_per_second


@dataclass(frozen=True)
class ClusterConfig:
    """One API server and one identity on it."""

    server: str
    namespace: str = "default"
    """The context's namespace, for requests that name none."""
    credentials: CredentialSource = field(default_factory=StaticCredentials)
    ca_data: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, for impersonation."""
    tcp_keepalive: bool = True
    requests_per_second: float = REQUESTS_PER_SECOND
    """Of the unary calls of a client; twice as many may come at once. See `kube.retry.TokenBucket`."""
    identity: str = ""
    """Equal for equal configs of this process, and free of secrets. Clients are shared by it."""

    def __post_init__(self) -> None:
        if not self.identity:
            everything = repr((type(self.credentials).__name__, dataclasses.astuple(self))).encode()
            digest = hashlib.blake2b(everything, digest_size=16, key=_DIGEST_KEY).hexdigest()
            object.__setattr__(self, "identity", digest)

    @property
    def host(self) -> str:
        """The server's host and port, as metrics name the cluster."""
        return urlsplit(self.server).netloc


_LOADS: SingleFlight[Hashable, ClusterConfig] = SingleFlight("kubeconfig")


async def load(source: ClusterSource) -> ClusterConfig:
    """Load the configuration of a cluster. Files that changed are read again. Raises `ConfigError`.

    An explicit source wins; then the service account, in a pod; then `$KUBECONFIG` or `~/.kube/config`.
    """
    # Hundreds of triggers start at once and name the same cluster: one thread reads for all of them.
    loop = asyncio.get_running_loop()
    return await _LOADS.run(source.key, lambda: loop.run_in_executor(None, load_blocking, source))


def load_blocking(source: ClusterSource) -> ClusterConfig:
    """`load` for code without an event loop. Reads files."""
    if source.in_cluster:
        return _in_cluster(source)
    if source.config_dict is not None:
        return _from_kubeconfig(select(*read_inline(source.config_dict), source.context), source)
    if source.config_file is not None:
        return _from_kubeconfig(select(*read_files([source.config_file], required=True), source.context), source)
    # A context can only mean a kubeconfig.
    if source.in_cluster is None and source.context is None and _is_pod():
        return _in_cluster(source)
    paths = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    documents, origin = read_files(paths or ["~/.kube/config"], required=bool(paths))
    return _from_kubeconfig(select(documents, origin, source.context), source)


def _is_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and Path(SERVICE_ACCOUNT, "token").exists()


def _in_cluster(source: ClusterSource) -> ClusterConfig:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            f"in_cluster is set, but {this_host()} is not a pod of a cluster (KUBERNETES_SERVICE_HOST is missing); "
            "give the connection a kubeconfig, or run there"
        )
    account = Path(SERVICE_ACCOUNT)
    if not (account / "token").exists():
        raise ConfigError(
            f"in_cluster is set, but {account / 'token'} is missing on {this_host()}; "
            "the pod needs a service account with automountServiceAccountToken"
        )
    namespace = account / "namespace"
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ClusterConfig(
        server=server,
        namespace=(namespace.read_text().strip() if namespace.exists() else "") or "default",
        credentials=FileCredentials(token_file=str(account / "token")),
        ca_file=_existing(source.ca_cert or str(account / "ca.crt"), "the CA"),
        verify_ssl=source.verify_ssl,
        proxy=_proxy(None, server, "the environment"),
        tcp_keepalive=source.tcp_keepalive,
        requests_per_second=source.requests_per_second or REQUESTS_PER_SECOND,
    )


def _from_kubeconfig(selected: SelectedContext, source: ClusterSource) -> ClusterConfig:
    cluster = selected.cluster
    server = _server(selected)
    ca_data = None
    if cluster.certificate_authority_data and not source.ca_cert:
        data = decode_data(cluster.certificate_authority_data, "certificate-authority-data", selected.origin)
        ca_data = data.decode("ascii", "ignore")  # Comments between the blocks may be in any script.
    ca_file = source.ca_cert or (None if ca_data else cluster.certificate_authority)
    return ClusterConfig(
        server=server,
        namespace=selected.context.namespace or "default",
        credentials=credential_source(selected, server),
        ca_data=ca_data,
        ca_file=_existing(ca_file, "certificate-authority") if ca_file else None,
        verify_ssl=_verifies(cluster, source),
        tls_server_name=cluster.tls_server_name or None,
        proxy=_proxy(cluster.proxy_url, server, selected.origin),
        headers=impersonation_headers(selected.auth_info),
        tcp_keepalive=source.tcp_keepalive,
        requests_per_second=source.requests_per_second or REQUESTS_PER_SECOND,
    )


def _verifies(cluster: Cluster, source: ClusterSource) -> bool:
    return source.verify_ssl and not cluster.insecure_skip_tls_verify


def _server(selected: SelectedContext) -> str:
    server = selected.cluster.server or ""
    if server and "://" not in server:
        server = f"https://{server}"
    try:
        url = urlsplit(server)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(f"{selected.origin}: the server of its cluster must be a URL such as https://host:6443")
    if "@" in url.netloc:
        raise ConfigError(f"{selected.origin}: the server's URL holds credentials; move them to the user section")
    return server.rstrip("/")


def _proxy(configured: str | None, server: str, origin: str) -> str | None:
    proxy = configured or proxy_from_environment(server, os.environ)
    if proxy and urlsplit(proxy).scheme not in ("http", "https"):
        raise ConfigError(f"{origin}: the proxy for {server} must be an http:// or https:// URL")
    return proxy


def _existing(path: str, what: str) -> str:
    if not Path(path).is_file():
        raise ConfigError(f"{what} {path} is missing on {this_host()}; it must exist on every host that runs this task")
    return path
