"""Generates kpo_async/localcluster/api/schema.json and protobuf.json from Kubernetes' published API.

    for group in api/v1 apis/{rbac.authorization,scheduling,authorization,authentication}.k8s.io/v1; do
      kubectl get --raw /openapi/v3/$group > $(basename $(dirname $group)).json
    done
    python scripts/localcluster_schema.py *.json k8s.io/{api,apimachinery}/**/generated.proto

`schema.json` maps each type to its fields and their types: `string`, `int32`, `int64`, `bool`, `float64`, `bytes`,
`any`, `Quantity`, `Time`, `MicroTime`, `IntOrString` or the name of another type; `[]T` is a list, `{}T` a map, and
`[]T|key` a list that strategic merge patches merge by that key.
`protobuf.json` maps each message to its fields' numbers, names and types, in the same notation; a name of "" means that
the fields of that message belong to the message that contains it.
"""

from __future__ import annotations

import json
import re
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
    "SelfSubjectAccessReview",
    "SelfSubjectRulesReview",
    "SelfSubjectReview",
    "TokenRequest",
)
OPAQUE_FIELDS = {("ObjectMeta", "managedFields")}
OUTPUT = Path(__file__).parent.parent / "kpo_async" / "localcluster" / "api"
SCALARS = {"string", "int32", "int64", "bool", "bytes"}
LEAVES = {"Time", "MicroTime", "Quantity", "IntOrString"}


def last_part(reference: str) -> str:
    """Return `Pod` for `io.k8s.api.core.v1.Pod`."""
    return reference.rpartition(".")[2]


def type_name(field: dict[str, Any]) -> str:
    """Return the type of an OpenAPI property in the notation of `schema.json`."""
    reference = field.get("$ref") or (field.get("allOf") or [{}])[0].get("$ref")
    if reference:
        return last_part(reference)
    match field.get("type"), field.get("format"):
        case "array", _:
            key = field.get("x-kubernetes-patch-merge-key")
            if "merge" not in (field.get("x-kubernetes-patch-strategy") or ""):
                key = None
            elif key is None:
                key = ""
            return f"[]{type_name(field['items'])}" + ("" if key is None else f"|{key}")
        case "object", _:
            return "{}" + type_name(field["additionalProperties"]) if "additionalProperties" in field else "any"
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


def write(name: str, types: dict[str, Any]) -> None:
    """Write the types to a file, one a line."""
    lines = [f"{json.dumps(kind)}: {json.dumps(types[kind])}" for kind in sorted(types)]
    (OUTPUT / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def read_schemas(paths: list[str]) -> dict[str, dict[str, str]]:
    """Return the types that are reachable from ROOTS, from OpenAPI documents."""
    documents: dict[str, Any] = {}
    for path in paths:
        documents |= json.loads(Path(path).read_text())["components"]["schemas"]
    by_name = {last_part(name): schema for name, schema in sorted(documents.items(), reverse=True)}
    types: dict[str, dict[str, str]] = {}
    waiting = [root for root in ROOTS if root in by_name]
    while waiting:
        name = waiting.pop()
        properties = by_name[name].get("properties") if name in by_name else None
        if name in types or properties is None:
            continue
        fields = {k: "any" if (name, k) in OPAQUE_FIELDS else type_name(v) for k, v in properties.items()}
        types[name] = fields
        waiting += [kind.lstrip("[]{}").partition("|")[0] for kind in fields.values()]
    return types


def read_messages(paths: list[str], types: dict[str, dict[str, str]]) -> dict[str, dict[str, list[str]]]:
    """Return the messages of the types and of the messages inlined into them, from `.proto` files."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for path in paths:
        for name, body in re.findall(r"^message (\w+) \{(.*?)^\}", Path(path).read_text(), re.M | re.S):
            fields = re.findall(r"^  (?:(optional|repeated) )?(map<string, ?)?([\w.]+)>? (\w+) = (\d+);", body, re.M)
            found[name] = {
                number: (field, ("[]" if label == "repeated" else "{}" if mapped else "") + last_part(f".{kind}"))
                for label, mapped, kind, field, number in fields
            }
    messages: dict[str, dict[str, list[str]]] = {}
    waiting = [root for root in ROOTS if root in types]
    while waiting:
        name = waiting.pop()
        if name in messages or name not in found or name in LEAVES:
            continue
        messages[name] = {}
        for number, (field, kind) in found[name].items():
            plain = kind.lstrip("[]{}")
            inlined = plain not in SCALARS and name in types and field not in types[name]
            if (name, field) not in OPAQUE_FIELDS:
                messages[name][number] = ["" if inlined else field, kind]
                waiting.append(plain)
    return messages


def main() -> None:
    types = read_schemas([path for path in sys.argv[1:] if path.endswith(".json")])
    write("schema.json", types)
    write("protobuf.json", read_messages([path for path in sys.argv[1:] if path.endswith(".proto")], types))


if __name__ == "__main__":
    main()
