"""The `user` section of a kubeconfig -> the `User` value that a client opens its credentials from."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from kpo_async.exceptions import ConfigError
from kpo_async.kube.auth.credentials import ClientCertificate, FileUser, StaticUser, User, basic, bearer
from kpo_async.kube.auth.exec_plugin import API_VERSIONS, ExecUser
from kpo_async.kube.auth.kubeconfig import Selected, decode_data, here
from kpo_async.kube.auth.kubeconfig import User as UserSection
from kpo_async.kube.auth.oidc import OidcUser

_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


def user_of(selected: Selected, server: str) -> User:
    """Who the kubeconfig says we are. A token beats a plugin, as in kubectl. Raises `ConfigError`."""
    user = selected.user
    if user.exec is not None and not user.token and not user.token_file:
        return _exec_user(selected, server)
    if user.auth_provider is not None and not user.token and not user.token_file:
        return _auth_provider_user(selected)
    if user.token_file or (user.client_certificate and user.client_key):
        return FileUser(
            token_file=user.token_file or None,
            authorization=_authorization(user),
            certificate=_inline_certificate(selected),
            certificate_file=_file(user.client_certificate, user.client_certificate_data),
            key_file=_file(user.client_key, user.client_key_data),
        )
    return StaticUser(_authorization(user), _inline_certificate(selected))


def impersonation(user: UserSection) -> tuple[tuple[str, str], ...]:
    """The headers by which the server lets us act as somebody else."""
    headers = []
    if user.impersonate:
        headers.append(("Impersonate-User", user.impersonate))
    if user.impersonate_uid:
        headers.append(("Impersonate-Uid", user.impersonate_uid))
    headers += [("Impersonate-Group", group) for group in user.impersonate_groups or ()]
    for name, values in (user.impersonate_extra or {}).items():
        headers += [(f"Impersonate-Extra-{name}", value) for value in values]
    return tuple(headers)


def _authorization(user: UserSection) -> str | None:
    if user.token:
        return bearer(user.token)
    if user.username:
        return basic(user.username, user.password or "")
    return None


def _file(path: str | None, data: str | None) -> str | None:
    """Data beats a path, as in kubectl."""
    return path if path and not data else None


def _inline_certificate(selected: Selected) -> ClientCertificate | None:
    """The client certificate, if not both of its halves are files that may be renewed."""
    user = selected.user
    certificate = _half(user.client_certificate, user.client_certificate_data, "client-certificate", selected.origin)
    key = _half(user.client_key, user.client_key_data, "client-key", selected.origin)
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError(f"{selected.origin}: client-certificate and client-key go together, and one is missing")
    if not user.client_certificate_data and not user.client_key_data:
        return None
    return ClientCertificate(certificate, key)


def _half(path: str | None, data: str | None, field: str, origin: str) -> bytes | None:
    if data:
        return decode_data(data, f"{field}-data", origin)
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{origin}: {field} {path} cannot be read on {here()}: {error.strerror}") from error


def _exec_user(selected: Selected, server: str) -> ExecUser:
    plugin = selected.user.exec
    assert plugin is not None
    if plugin.api_version not in API_VERSIONS:
        raise ConfigError(
            f'{selected.origin}: the exec plugin "{plugin.command}" speaks {plugin.api_version or "no apiVersion"}, '
            f"but Kubernetes has {' and '.join(API_VERSIONS)}; make the kubeconfig anew with a current tool"
        )
    if plugin.interactive_mode == "Always":
        raise ConfigError(
            f'{selected.origin}: the exec plugin "{plugin.command}" wants a terminal (interactiveMode: Always), '
            "and tasks have none; give it other credentials"
        )
    return ExecUser(
        command=plugin.command,
        args=tuple(plugin.args or ()),
        environment=tuple((variable.name, variable.value) for variable in plugin.env or ()),
        api_version=plugin.api_version,
        cluster_info=_cluster_info(selected, server) if plugin.provide_cluster_info else "",
        install_hint=(plugin.install_hint or "").strip(),
        certificate=_inline_certificate(selected),
    )


def _cluster_info(selected: Selected, server: str) -> str:
    """`spec.cluster` of the ExecCredential a plugin is given."""
    cluster = selected.cluster
    authority = cluster.certificate_authority_data
    if not authority and cluster.certificate_authority:
        data = _half(cluster.certificate_authority, None, "certificate-authority", selected.origin)
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


def _auth_provider_user(selected: Selected) -> OidcUser:
    provider = selected.user.auth_provider
    assert provider is not None
    if provider.name != "oidc":
        raise ConfigError(
            f'{selected.origin}: auth-provider "{provider.name}" was removed from Kubernetes in 1.26; '
            "use its exec plugin (gke-gcloud-auth-plugin, kubelogin), a token or a client certificate"
        )
    settings = {name: str(value) for name, value in (provider.config or {}).items() if value}
    issuer = settings.get("idp-issuer-url", "")
    if settings.get("refresh-token") and not issuer.startswith("https://"):
        raise ConfigError(f"{selected.origin}: auth-provider oidc needs an idp-issuer-url that begins with https://")
    ca_data = settings.get("idp-certificate-authority-data", "")
    return OidcUser(
        issuer=issuer.rstrip("/"),
        client_id=settings.get("client-id", ""),
        client_secret=settings.get("client-secret", ""),
        id_token=settings.get("id-token", ""),
        refresh_token=settings.get("refresh-token", ""),
        ca_file=settings.get("idp-certificate-authority") or None,
        ca_data=decode_data(ca_data, "idp-certificate-authority-data", selected.origin).decode("ascii", "ignore")
        if ca_data
        else None,
    )
