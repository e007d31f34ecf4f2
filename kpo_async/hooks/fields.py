"""The fields of a connection of type `kubernetes`: one table for the form, the provider metadata and the resolver.

Names are the extras that the connection type has always had in Airflow, plus `ssl_ca_cert`. No import of Airflow here:
the provider metadata is read before anything else of Airflow is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

CONNECTION_TYPE = "kubernetes"
DEFAULT_CONNECTION_ID = "kubernetes_default"
HOOK_NAME = "Kubernetes Cluster Connection"
LEGACY_PREFIX = "extra__kubernetes__"
"""Extras written before Airflow 2.3 carry it."""

HIDDEN_FIELDS = ("host", "schema", "login", "password", "port", "extra")
"""Standard fields of a connection that say nothing about a cluster."""


class FieldKind(Enum):
    """What a field of the form holds."""

    TEXT = "text"
    SECRET = "secret"
    SWITCH = "switch"


@dataclass(frozen=True)
class Field:
    """One extra of the connection, as the form shows it."""

    name: str
    label: str
    kind: FieldKind = FieldKind.TEXT

    def to_schema(self) -> dict[str, Any]:
        """The field as the `conn-fields` of the provider metadata describe it (Airflow 3.2 and newer)."""
        schema: dict[str, Any] = {"type": ["boolean" if self.kind is FieldKind.SWITCH else "string", "null"]}
        if self.kind is FieldKind.SECRET:
            schema["format"] = "password"
        return {"label": self.label, "schema": schema}


FIELDS = (
    Field("in_cluster", "In cluster configuration", FieldKind.SWITCH),
    Field("kube_config_path", "Kube config path"),
    Field("kube_config", "Kube config (JSON format)", FieldKind.SECRET),
    Field("namespace", "Namespace"),
    Field("cluster_context", "Cluster context"),
    Field("disable_verify_ssl", "Disable SSL", FieldKind.SWITCH),
    Field("ssl_ca_cert", "Path of the CA certificates (PEM)"),
    Field("disable_tcp_keepalive", "Disable TCP keepalive", FieldKind.SWITCH),
    Field("xcom_sidecar_container_image", "XCom sidecar image"),
    Field("xcom_sidecar_container_resources", "XCom sidecar resources (JSON format)"),
    Field("xcom_sidecar_container_security_context", "XCom sidecar security context (JSON format)"),
)
