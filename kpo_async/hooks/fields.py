"""The fields of a connection of type `kubernetes`: one table for the form, the provider metadata and the resolver.

Names are those of the incumbent's extras, plus `ssl_ca_cert`. This imports nothing of Airflow, which reads the provider
metadata before it is imported itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

CONNECTION_TYPE = "kubernetes"
DEFAULT_CONNECTION_ID = "kubernetes_default"
HOOK_NAME = "Kubernetes Cluster Connection"
LEGACY_PREFIX = "extra__kubernetes__"
"""Prefix of extras that were written before Airflow 2.3."""

HIDDEN_FIELDS = ("host", "schema", "login", "password", "port", "extra")
"""Standard fields of a connection that mean nothing for a cluster."""


class FieldKind(Enum):
    """The type of a field in the form."""

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
        """Return the field as in the `conn-fields` of the provider metadata (Airflow 3.2 and newer)."""
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
