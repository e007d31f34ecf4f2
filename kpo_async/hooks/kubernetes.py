"""Resolve an Airflow connection and arguments to a cluster: one resolver for workers, triggerer and hook.

`cluster_source` returns where a cluster is and with what identity, from which `kube.auth.load` makes the configuration
of a client. Arguments override extras, field by field.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow.sdk import BaseHook

from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.hooks.connection import fetch_extras
from kpo_async.hooks.extras import Extras
from kpo_async.hooks.fields import CONNECTION_TYPE, DEFAULT_CONNECTION_ID, FIELDS, HIDDEN_FIELDS, HOOK_NAME, FieldKind
from kpo_async.hooks.sync import run_sync
from kpo_async.hooks.sync_client import api_client, core_v1
from kpo_async.kube.auth import SERVICE_ACCOUNT, ClusterSource, load
from kpo_async.kube.client import Client, connect
from kpo_async.kube.shared import SingleFlight
from kpo_async.pod.build import ConnectionDefaults
from kpo_async.pod_task import ClusterRef

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, CoreV1Api

T = TypeVar("T")

TEST_BUDGET = 5.0
"""Seconds in which the Test button retries: a person waits for its answer."""


async def cluster_source(
    conn_id: str | None,
    *,
    in_cluster: bool | None = None,
    config_file: str | None = None,
    cluster_context: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    disable_verify_ssl: bool | None = None,
    disable_tcp_keepalive: bool | None = None,
) -> tuple[ClusterSource, ConnectionDefaults]:
    """Return where the cluster is, and the connection's defaults for pods in it. `conn_id=None` uses no connection.

    Raises `ConfigError` when the connection is missing or malformed, or when two of its fields or arguments name a
    cluster.
    """
    extras = await fetch_extras(conn_id)
    from_pod = _prefer("in_cluster", in_cluster, extras, "in_cluster", extras.switch("in_cluster"))
    path = _prefer("config_file", config_file or None, extras, "kube_config_path", extras.text("kube_config_path"))
    document = _Setting(config_dict or None, "the argument `config_dict`")
    stored_document = _Setting(extras.mapping("kube_config"), extras.origin("kube_config"))
    _refuse_two(from_pod, path, document, stored_document)
    source = ClusterSource(
        in_cluster=from_pod.value,
        config_file=path.value,
        config_dict=document.value or stored_document.value,
        context=cluster_context or extras.text("cluster_context"),
        verify_ssl=not _first(disable_verify_ssl, extras.switch("disable_verify_ssl")),
        ca_cert=extras.text("ssl_ca_cert"),
        tcp_keepalive=not _first(disable_tcp_keepalive, extras.switch("disable_tcp_keepalive")),
        requests_per_second=extras.number("requests_per_second") or None,
    )
    return source, await _defaults(extras)


async def resolve(cluster: ClusterRef) -> tuple[ClusterSource, ConnectionDefaults]:
    """Return the `cluster_source` of a task's cluster, on a worker as in a triggerer."""
    return await cluster_source(
        cluster.conn_id,
        in_cluster=cluster.in_cluster,
        config_file=cluster.config_file,
        cluster_context=cluster.context,
    )


@dataclass(frozen=True)
class _Setting(Generic[T]):
    """A value, and the name of the field or argument that gave it, for error messages."""

    value: T | None
    origin: str


def _prefer(argument: str, value: T | None, extras: Extras, field: str, extra: T | None) -> _Setting[T]:
    if value is not None:
        return _Setting(value, f"the argument `{argument}`")
    return _Setting(extra, extras.origin(field))


def _refuse_two(*sources: _Setting[Any]) -> None:
    given = [source.origin for source in sources if source.value]
    if len(given) > 1:
        raise ConfigError(f"More than one setting names the cluster: {' and '.join(given)}. Keep one of them.")


def _first(argument: bool | None, extra: bool | None) -> bool | None:
    return extra if argument is None else argument


async def _defaults(extras: Extras) -> ConnectionDefaults:
    return ConnectionDefaults(
        namespace=extras.text("namespace") or await _NAMESPACE.run(None, _service_account_namespace),
        xcom_sidecar_image=extras.text("xcom_sidecar_container_image"),
        xcom_sidecar_resources=extras.mapping("xcom_sidecar_container_resources"),
        xcom_sidecar_security_context=extras.mapping("xcom_sidecar_container_security_context"),
    )


async def _service_account_namespace() -> str | None:
    """Return the namespace of the pod that this process runs in, None outside of a cluster."""
    try:
        return (await asyncio.to_thread((Path(SERVICE_ACCOUNT) / "namespace").read_text)).strip() or None
    except OSError:
        return None


_NAMESPACE: SingleFlight[None, str | None] = SingleFlight("own namespace", fresh_for=math.inf)
"""A thread of its own for each of hundreds of tasks that start at once would take longer than what it reads."""


class KubernetesHook(BaseHook):
    """A connection of type `kubernetes`: its form, its Test button, and clients of its cluster.

    The constructor has the incumbent's parameters, without `client_configuration`.
    """

    conn_name_attr = "kubernetes_conn_id"
    default_conn_name = DEFAULT_CONNECTION_ID
    conn_type = CONNECTION_TYPE
    hook_name = HOOK_NAME

    def __init__(
        self,
        conn_id: str | None = None,
        kubernetes_conn_id: str | None = DEFAULT_CONNECTION_ID,
        *,
        cluster_context: str | None = None,
        config_file: str | None = None,
        config_dict: Mapping[str, Any] | None = None,
        in_cluster: bool | None = None,
        disable_verify_ssl: bool | None = None,
        disable_tcp_keepalive: bool | None = None,
    ) -> None:
        super().__init__()
        self.conn_id = conn_id or kubernetes_conn_id
        self.cluster_context = cluster_context
        self.config_file = config_file
        self.config_dict = config_dict
        self.in_cluster = in_cluster
        self.disable_verify_ssl = disable_verify_ssl
        self.disable_tcp_keepalive = disable_tcp_keepalive

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form, for Airflow 3.1. Newer ones read the provider's metadata."""
        from wtforms import BooleanField, PasswordField, StringField

        widgets = {FieldKind.TEXT: StringField, FieldKind.SECRET: PasswordField, FieldKind.SWITCH: BooleanField}
        return {field.name: widgets[field.kind](field.label) for field in FIELDS}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return which standard fields the form hides, for Airflow 3.1."""
        return {"hidden_fields": list(HIDDEN_FIELDS), "relabeling": {}}

    async def resolve(self) -> tuple[ClusterSource, ConnectionDefaults]:
        """See `cluster_source`."""
        return await cluster_source(
            self.conn_id,
            in_cluster=self.in_cluster,
            config_file=self.config_file,
            cluster_context=self.cluster_context,
            config_dict=self.config_dict,
            disable_verify_ssl=self.disable_verify_ssl,
            disable_tcp_keepalive=self.disable_tcp_keepalive,
        )

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        """Yield a client of the cluster. All users in this event loop with the same identity share it."""
        source, _ = await self.resolve()
        async with connect(source) as client:
            yield client

    def get_conn(self) -> ApiClient:
        """Return a client of the `kubernetes` package. Raises what `sync_client.api_client` raises."""
        source, _ = run_sync(self.resolve())
        return api_client(source)

    @cached_property
    def core_v1_client(self) -> CoreV1Api:
        """The core API of `get_conn`, as users' callbacks get it."""
        source, _ = run_sync(self.resolve())
        return core_v1(source)

    def get_namespace(self) -> str | None:
        """Return the namespace for pods without one: the connection's, or else that of this process's own pod."""
        _, defaults = run_sync(self.resolve())
        return defaults.namespace

    def test_connection(self) -> tuple[bool, str]:
        """Return what the form's Test button shows: whether the server answers, and whether this may create pods."""
        try:
            return True, run_sync(self._probe())
        except KpoError as error:
            return False, str(error)

    async def _probe(self) -> str:
        source, defaults = await self.resolve()
        async with Client(await load(source), retry_budget=TEST_BUDGET) as client:
            namespace = defaults.namespace or client.config.namespace
            allowed = await client.review_access("create", "pods", namespace)
            verdict = "may" if allowed else "may NOT"
            return f"{client.config.server} answers; this identity {verdict} create pods in namespace {namespace!r}."
