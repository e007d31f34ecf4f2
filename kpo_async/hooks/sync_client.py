"""The synchronous `kubernetes` client, for users' code: callbacks, and callers of `KubernetesHook.get_conn`.

It is made from the same `ClusterConfig` and credentials as kpo_async's own client, so both reach the same server in the
same way, as the same user: the package's own kubeconfig loader knows no impersonation and no networks in NO_PROXY. Only
`kubernetes.stream`, which sends no other header than Authorization, does not impersonate. The package is imported in
these functions only.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from kpo_async.exceptions import KpoError
from kpo_async.hooks.sync import run_sync
from kpo_async.kube.auth import (
    ClusterConfig,
    ClusterSource,
    CredentialError,
    Grant,
    GrantCache,
    build_context,
    load,
)

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration, CoreV1Api
    from kubernetes.client.rest import RESTClientObject


def core_v1(source: ClusterSource) -> CoreV1Api:
    """Return the core API of `api_client`, the client that callbacks get. Blocks, and raises the same."""
    api = api_client(source)
    from kubernetes.client import CoreV1Api

    return CoreV1Api(api)


def api_client(source: ClusterSource) -> ApiClient:
    """Return a client of the cluster that `source` names. Changes nothing process-wide.

    Blocks: this may run an exec plugin. Raises `ConfigError`, and `KpoError` when the credentials cannot be obtained or
    the package is not installed.
    """
    try:
        from kubernetes.client import ApiClient
    except ModuleNotFoundError as error:
        raise KpoError(
            f"a callback that takes `client`, and KubernetesHook.get_conn(), need the package {error.name!r}, which is "
            "not installed: pip install 'kpo-async[models]'"
        ) from error
    config = run_sync(load(source))
    configuration = _configuration(config)
    api = ApiClient(configuration)
    api.rest_client = _rest_client(config, configuration)
    return api


def _configuration(config: ClusterConfig) -> Configuration:
    from kubernetes.client import Configuration

    configuration = Configuration()
    configuration.host = config.server
    configuration.verify_ssl = config.verify_ssl
    configuration.tls_server_name = config.tls_server_name
    # These two were taken from the environment, which `config` has already taken into account.
    configuration.proxy, configuration.no_proxy = config.proxy, None
    configuration.proxy_headers = _proxy_headers(config.proxy)
    configuration.ssl_ca_cert = config.ca_file
    files = _Files(configuration)
    if config.ca_data:
        configuration.ssl_ca_cert = files.write("ca.crt", config.ca_data.encode())
    _authenticate(configuration, config, files)
    return configuration


def _authenticate(configuration: Configuration, config: ClusterConfig, files: _Files) -> None:
    """Add the credentials, which the client asks for again before each request if they expire."""
    grants = GrantCache(config.credentials)

    def refresh(target: Configuration) -> Grant:
        try:
            grant = run_sync(grants.grant())
        except CredentialError as error:
            raise KpoError(f"there are no credentials for {config.server}: {error}") from error
        if grant.authorization:
            target.api_key["authorization"] = grant.authorization
        if grant.certificate:
            target.cert_file = files.write("tls.crt", grant.certificate.certificate)
            target.key_file = files.write("tls.key", grant.certificate.key)
        return grant

    if refresh(configuration).lifetime is not None:
        configuration.refresh_api_key_hook = refresh


def _proxy_headers(proxy: str | None) -> Any:
    """Return the credentials of a proxy's URL as urllib3, unlike aiohttp, wants them: in a header."""
    from urllib3 import make_headers

    url = urlsplit(proxy or "")
    if url.username is None:
        return None
    return make_headers(proxy_basic_auth=f"{unquote(url.username)}:{unquote(url.password or '')}")


def _rest_client(config: ClusterConfig, configuration: Configuration) -> RESTClientObject:
    """Return the part of the client that sends requests, with the TLS settings and headers of `config`."""
    from kubernetes.client.rest import RESTClientObject
    from urllib3 import HTTPHeaderDict

    class Impersonating(RESTClientObject):  # type: ignore[misc]
        def request(self, method: str, url: str, *, headers: Any = None, **options: Any) -> Any:
            # The client's own headers are a dict, which holds one value for Impersonate-Group.
            given = HTTPHeaderDict(headers)
            for name, value in config.headers:
                given.add(name, value)
            return super().request(method, url, headers=given, **options)

    rest = Impersonating(configuration)
    if config.server.startswith("https:"):
        rest.pool_manager.connection_pool_kw["ssl_context"] = build_context(config, None)
    return rest


class _Files:
    """Files for the client, which takes PEM only from files: in a private directory, deleted with their owner."""

    def __init__(self, owner: object) -> None:
        self._owner = weakref.ref(owner)
        self._directory: Path | None = None
        self._written: dict[str, bytes] = {}

    def write(self, name: str, content: bytes) -> str:
        """Write a file, if its content is new, and return its path."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="kpo-async-"))
            delete = weakref.finalize(self._owner(), shutil.rmtree, self._directory, ignore_errors=True)
            # Airflow clears what is to be done at exit when it forks a task, and with it that of `finalize`.
            atexit.register(delete)
        path = self._directory / name
        if self._written.get(name) != content:
            path.write_bytes(content)
            self._written[name] = content
        return str(path)
