"""Writes kpo_async/localcluster/schema.json from a real API server's OpenAPI documents.

    kubectl get --raw /openapi/v3/api/v1 > core.json    # and apis/rbac.authorization.k8s.io/v1, apis/scheduling.k8s.io/v1
    python scripts/localcluster_schema.py core.json rbac.json scheduling.json

The result maps each type to its fields and their types: `string`, `int32`, `int64`, `bool`, `float64`, `bytes`, `any`,
`Quantity`, `Time`, `MicroTime`, `IntOrString` or the name of another type; `[]T` is a list, `{}T` a map, and
`[]T|key` a list that strategic merge patches merge by that key.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOTS = (
    "Pod",
    "ConfigMap",
    "Secret",
    "Namespace",
    "Event",
    "ServiceAccount",
    "Node",
    "ResourceQuota",
    "Binding",
    "Eviction",
    "DeleteOptions",
    "Role",
    "RoleBinding",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
)
OPAQUE_FIELDS = {("ObjectMeta", "managedFields")}
OUTPUT = Path(__file__).parent.parent / "kpo_async" / "localcluster" / "schema.json"


def short(reference: str) -> str:
    return reference.rpartition(".")[2]


def spell(field: dict[str, Any]) -> str:
    reference = field.get("$ref") or (field.get("allOf") or [{}])[0].get("$ref")
    if reference:
        return short(reference)
    match field.get("type"), field.get("format"):
        case "array", _:
            key = field.get("x-kubernetes-patch-merge-key")
            if "merge" not in (field.get("x-kubernetes-patch-strategy") or ""):
                key = None
            elif key is None:
                key = ""
            return f"[]{spell(field['items'])}" + ("" if key is None else f"|{key}")
        case "object", _:
            return "{}" + spell(field["additionalProperties"]) if "additionalProperties" in field else "any"
        case "integer", form:
            return form or "int64"
        case "boolean", _:
            return "bool"
        case "number", _:
            return "float64"
        case "string", "byte":
            return "bytes"
        case "string", _:
            return "string"
    return "any"


def main() -> None:
    documents: dict[str, Any] = {}
    for path in sys.argv[1:]:
        documents |= json.loads(Path(path).read_text())["components"]["schemas"]
    by_name = {short(name): schema for name, schema in sorted(documents.items(), reverse=True)}
    types: dict[str, dict[str, str]] = {}
    waiting = [root for root in ROOTS if root in by_name]
    while waiting:
        name = waiting.pop()
        properties = by_name[name].get("properties") if name in by_name else None
        if name in types or properties is None:
            continue
        fields = {k: "any" if (name, k) in OPAQUE_FIELDS else spell(v) for k, v in properties.items()}
        types[name] = fields
        waiting += [kind.lstrip("[]{}").partition("|")[0] for kind in fields.values()]
    lines = [f"{json.dumps(name)}: {json.dumps(types[name])}" for name in sorted(types)]
    OUTPUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
