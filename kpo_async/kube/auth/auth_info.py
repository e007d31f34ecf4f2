"""Convert the user section of a kubeconfig (AuthInfo) to a credential source and impersonation headers."""

from __future__ import annotations

import base64
import shlex
from pathlib import Path

import msgspec

from kpo_async.exceptions import ConfigError
from kpo_async.kube.auth.credentials import (
    ClientCertificate,
    CredentialSource,
    FileCredentials,
    StaticCredentials,
    basic,
    bearer,
)
from kpo_async.kube.auth.exec_plugin import API_VERSIONS, ExecPlugin, GcloudHelper
from kpo_async.kube.auth.kubeconfig import AuthInfo, SelectedContext, decode_data, this_host
from kpo_async.kube.auth.oidc import OidcProvider

_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


def credential_source(selected: SelectedContext, server: str) -> CredentialSource:
    """The credentials that the selected context names. A token beats a plugin, as in kubectl. Raises `ConfigError`."""
    auth_info = selected.auth_info
    if auth_info.exec is not None and not auth_info.token and not auth_info.token_file:
        return _exec_plugin(selected, server)
    if auth_info.auth_provider is not None and not auth_info.token and not auth_info.token_file:
        return _auth_provider(selected)
    if auth_info.token_file or (auth_info.client_certificate and auth_info.client_key):
        return FileCredentials(
            token_file=auth_info.token_file or None,
            authorization=_authorization(auth_info),
            certificate=_inline_certificate(selected),
            certificate_file=_file(auth_info.client_certificate, auth_info.client_certificate_data),
            key_file=_file(auth_info.client_key, auth_info.client_key_data),
        )
    return StaticCredentials(_authorization(auth_info), _inline_certificate(selected))


def impersonation_headers(auth_info: AuthInfo) -> tuple[tuple[str, str], ...]:
    """The headers that make the server treat requests as another user's."""
    headers = []
    if auth_info.impersonate:
        headers.append(("Impersonate-User", auth_info.impersonate))
    if auth_info.impersonate_uid:
        headers.append(("Impersonate-Uid", auth_info.impersonate_uid))
    headers += [("Impersonate-Group", group) for group in auth_info.impersonate_groups or ()]
    for name, values in (auth_info.impersonate_extra or {}).items():
        headers += [(f"Impersonate-Extra-{name}", value) for value in values]
    return tuple(headers)


def _authorization(auth_info: AuthInfo) -> str | None:
    if auth_info.token:
        return bearer(auth_info.token)
    if auth_info.username:
        return basic(auth_info.username, auth_info.password or "")
    return None


def _file(path: str | None, data: str | None) -> str | None:
    """The path, unless there is data: data beats a path, as in kubectl."""
    return path if path and not data else None


def _inline_certificate(selected: SelectedContext) -> ClientCertificate | None:
    """The client certificate. None if certificate and key are both files, which are read again when they change."""
    auth_info, origin = selected.auth_info, selected.origin
    certificate = _pem(auth_info.client_certificate, auth_info.client_certificate_data, "client-certificate", origin)
    key = _pem(auth_info.client_key, auth_info.client_key_data, "client-key", origin)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError(f"{origin}: client-certificate and client-key go together, and one is missing")
    if not auth_info.client_certificate_data and not auth_info.client_key_data:
        return None
    return ClientCertificate(certificate, key)


def _pem(path: str | None, data: str | None, field: str, origin: str) -> bytes | None:
    if data:
        return decode_data(data, f"{field}-data", origin)
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{origin}: {field} {path} cannot be read on {this_host()}: {error.strerror}") from error


def _exec_plugin(selected: SelectedContext, server: str) -> ExecPlugin:
    plugin = selected.auth_info.exec
    assert plugin is not None
    if plugin.api_version not in API_VERSIONS:
        raise ConfigError(
            f'{selected.origin}: the exec plugin "{plugin.command}" speaks {plugin.api_version or "no apiVersion"}, '
            f"but Kubernetes has {' and '.join(API_VERSIONS)}; create the kubeconfig again with a current tool"
        )
    if plugin.interactive_mode == "Always":
        raise ConfigError(
            f'{selected.origin}: the exec plugin "{plugin.command}" wants a terminal (interactiveMode: Always), '
            "and tasks have none; use other credentials"
        )
    return ExecPlugin(
        command=plugin.command,
        args=tuple(plugin.args or ()),
        environment=tuple((variable.name, variable.value) for variable in plugin.env or ()),
        api_version=plugin.api_version,
        cluster_info=_cluster_info(selected, server) if plugin.provide_cluster_info else "",
        install_hint=(plugin.install_hint or "").strip(),
        certificate=_inline_certificate(selected),
    )


def _cluster_info(selected: SelectedContext, server: str) -> str:
    """`spec.cluster` of the ExecCredential that a plugin is given, as JSON."""
    cluster = selected.cluster
    authority = cluster.certificate_authority_data
    if not authority and cluster.certificate_authority:
        data = _pem(cluster.certificate_authority, None, "certificate-authority", selected.origin)
        authority = base64.b64encode(data or b"").decode()
    extensions = {extension.name: extension.extension for extension in cluster.extensions or ()}
    info = {
        "server": server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": authority,
        "proxy-url": cluster.proxy_url,
        "config": extensions.get(_EXEC_EXTENSION),
    }
    return msgspec.json.encode({name: value for name, value in info.items() if value}).decode()


def _auth_provider(selected: SelectedContext) -> CredentialSource:
    provider = selected.auth_info.auth_provider
    assert provider is not None
    settings = {name: str(value) for name, value in (provider.config or {}).items() if value}
    if provider.name == "oidc":
        return _oidc_provider(settings, selected.origin)
    if provider.name == "gcp" and "cmd-path" in settings:
        return GcloudHelper(settings["cmd-path"], tuple(shlex.split(settings.get("cmd-args", ""))))
    raise ConfigError(
        f'{selected.origin}: auth-provider "{provider.name}" was removed from Kubernetes in 1.26; '
        "use its exec plugin (gke-gcloud-auth-plugin, kubelogin), a token or a client certificate"
    )


def _oidc_provider(settings: dict[str, str], origin: str) -> OidcProvider:
    issuer = settings.get("idp-issuer-url", "")
    if settings.get("refresh-token") and not issuer.startswith("https://"):
        raise ConfigError(f"{origin}: auth-provider oidc needs an idp-issuer-url that begins with https://")
    ca_data = settings.get("idp-certificate-authority-data", "")
    return OidcProvider(
        issuer=issuer.rstrip("/"),
        client_id=settings.get("client-id", ""),
        client_secret=settings.get("client-secret", ""),
        id_token=settings.get("id-token", ""),
        refresh_token=settings.get("refresh-token", ""),
        ca_file=settings.get("idp-certificate-authority") or None,
        ca_data=decode_data(ca_data, "idp-certificate-authority-data", origin).decode("ascii", "ignore")
        if ca_data
        else None,
    )
