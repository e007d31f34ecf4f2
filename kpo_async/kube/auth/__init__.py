"""Where a cluster is, and with which credentials: from a `ClusterSource` to the `ClusterConfig` of a client.

    config.py         in-cluster, kubeconfig or dict -> ClusterConfig; `load` is the way in
    kubeconfig.py     kubeconfig files read, merged and checked
    auth_info.py      a kubeconfig's user section (AuthInfo) -> CredentialSource
    credentials.py    CredentialSource -> Grant, renewed in time by a GrantCache
    exec_plugin.py    credentials from a program (`exec`, and `auth-provider: gcp`)
    oidc.py           credentials from an OIDC issuer (`auth-provider: oidc`), which kubernetes_asyncio talks to
    proxy.py, tls.py  the proxy to a server; its SSLContext

Why this is our own although kubernetes_asyncio loads kubeconfigs, too: its loader ignores impersonation (`as`),
networks in NO_PROXY, `provideClusterInfo` and `interactiveMode`; it has no time limits, hangs on a plugin that fills
stderr, reads files on the event loop, keeps keys in temporary files, and does not renew a token that the server
rejects. The exchange of tokens with an OIDC issuer is delegated to it, and is all it is imported for: that takes 0.4 s.
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
