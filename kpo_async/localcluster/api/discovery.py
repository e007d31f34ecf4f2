"""Discovery documents, and the other paths that are not resources': version, health, OpenAPI."""

from __future__ import annotations

from typing import Any

from kpo_async.localcluster.api import resources
from kpo_async.localcluster.api.resources import RESOURCES, Resource
from kpo_async.localcluster.node import KUBERNETES_VERSION
from kpo_async.localcluster.store.objects import Object

_OPENAPI = "/openapi/v3"


def version() -> Object:
    """Return the document of `/version`: the version that the server emulates."""
    return {
        "major": "1",
        "minor": "34",
        "gitVersion": KUBERNETES_VERSION,
        "gitCommit": "kpo-async",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    }


def document(path: str, address: str) -> Any:
    """Return the JSON document or the text at a path, None when there is none."""
    parts = [part for part in path.split("/") if part]
    match parts:
        case ["version"]:
            return version()
        case ["healthz" | "livez" | "readyz"]:
            return "ok"
        case ["api"]:
            cidr = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [cidr]}
        case ["api", "v1"]:
            return resources.resource_list("")
        case ["apis"]:
            groups = [resources.group_document(group) for group in resources.GROUPS]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in resources.GROUPS:
            return {"kind": "APIGroup", "apiVersion": "v1", **resources.group_document(group)}
        case ["apis", group, "v1"] if group in resources.GROUPS:
            return resources.resource_list(group)
        case ["openapi", "v3"]:
            roots = ["api/v1", *(f"apis/{group}/v1" for group in resources.GROUPS)]
            return {"paths": {root: {"serverRelativeURL": f"{_OPENAPI}/{root}"} for root in roots}}
        case ["openapi", "v3", "api", "v1"]:
            return _openapi("", "/api/v1")
        case ["openapi", "v3", "apis", group, "v1"] if group in resources.GROUPS:
            return _openapi(group, f"/apis/{group}/v1")
    return None


def _openapi(group: str, root: str) -> Object:
    """Just enough for kubectl to see that the server validates fields itself (`fieldValidation` of a PATCH)."""
    paths = {}
    for resource in (found for found in RESOURCES if found.group == group and "patch" in found.verbs):
        where = f"{root}/namespaces/{{namespace}}" if resource.namespaced else root
        paths[f"{where}/{resource.name}/{{name}}"] = _operations(resource)
    info = {"title": "Kubernetes", "version": KUBERNETES_VERSION}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}


def _operations(resource: Resource) -> Object:
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")]
    return {
        "patch": {
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": kind,
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
        }
    }
