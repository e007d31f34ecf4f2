"""The synchronous `kubernetes` client, for users' code that must be handed one: callbacks and subclasses.

The library itself talks through `kube.client`. The package is imported only here, inside the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.kube.auth import ClusterSource

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration, CoreV1Api


def api_client(source: ClusterSource) -> ApiClient:
    """A client of the cluster that `source` names. Nothing process-wide is changed. Blocks: it may run a plug-in.

    Raises ConfigError when the package's own loader cannot make sense of the source, KpoError when it is not installed.
    """
    try:
        from kubernetes import client
        from kubernetes.config import ConfigException
    except ModuleNotFoundError as error:
        raise KpoError(
            f"this needs the synchronous client, {error.name!r} is missing: `pip install kubernetes`"
        ) from error
    configuration = client.Configuration()
    try:
        _load(source, configuration)
    except ConfigException as error:
        raise ConfigError(f"the synchronous client cannot be configured: {error}") from None
    configuration.verify_ssl = configuration.verify_ssl and source.verify_ssl
    configuration.ssl_ca_cert = source.ca_cert or configuration.ssl_ca_cert
    return client.ApiClient(configuration)


def core_v1(source: ClusterSource) -> CoreV1Api:
    """The core API of `api_client`: what callbacks get. Blocks, and raises the same."""
    api = api_client(source)
    from kubernetes.client import CoreV1Api

    return CoreV1Api(api)


def _load(source: ClusterSource, configuration: Configuration) -> None:
    """In the order of `kube.config.load`: what is given, else the service account, else the default kubeconfig."""
    from kubernetes import config

    if source.config_dict is not None:
        config.load_kube_config_from_dict(
            dict(source.config_dict),
            context=source.context,
            client_configuration=configuration,
        )
    elif source.config_file is not None or source.in_cluster is False:
        _load_file(source, configuration)
    elif source.in_cluster:
        config.load_incluster_config(client_configuration=configuration)
    else:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            _load_file(source, configuration)


def _load_file(source: ClusterSource, configuration: Configuration) -> None:
    from kubernetes import config

    config.load_kube_config(
        config_file=source.config_file,
        context=source.context,
        client_configuration=configuration,
        persist_config=False,
    )
