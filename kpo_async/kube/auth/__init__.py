"""Where a cluster is, and with which credentials: from a `ClusterSource` to the `ClusterConfig` of a client.

    config.py         in-cluster, kubeconfig or dict -> ClusterConfig; `load` is the way in
    kubeconfig.py     kubeconfig files read, merged and checked
    auth_info.py      a kubeconfig's user section (AuthInfo) -> CredentialSource
    credentials.py    CredentialSource -> Grant, renewed in time by a GrantCache
    exec_plugin.py    credentials from a program (`exec`)
    auth_provider.py  credentials from an `auth-provider`: OIDC and gcloud, fetched by kubernetes_asyncio
    proxy.py, tls.py  the proxy to a server; its SSLContext

Why most of this is our own although kubernetes_asyncio loads kubeconfigs, too: its loader has no time limits, starts no
exec plugin without the risk of a deadlock (it reads stdout to its end before stderr), ignores `as` and `as-groups`
(impersonation), NO_PROXY's networks, `provideClusterInfo` and `interactiveMode`, keeps keys in temporary files, reads
files on the event loop, and does not renew a token that the server rejects. It is asked for what it does well: the
exchange with an OIDC issuer and gcloud's helper, both of them rare. It is imported only then, because that takes 0.4 s.
"""

from __future__ import annotations

from kpo_async.kube.auth.config import SERVICE_ACCOUNT, ClusterConfig, ClusterSource, load, load_blocking
from kpo_async.kube.auth.credentials import (
    ClientCertificate,
    CredentialError,
    CredentialSource,
    Grant,
    GrantCache,
    StaticCredentials,
)
from kpo_async.kube.auth.tls import build_context

__all__ = [
    "SERVICE_ACCOUNT",
    "ClientCertificate",
    "ClusterConfig",
    "ClusterSource",
    "CredentialError",
    "CredentialSource",
    "Grant",
    "GrantCache",
    "StaticCredentials",
    "build_context",
    "load",
    "load_blocking",
]
