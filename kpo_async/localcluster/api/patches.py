"""The four kinds of patches: JSON merge (RFC 7386), JSON patch (RFC 6902), strategic merge, and server-side apply.

Pure functions on plain JSON. Server-side apply is a strategic merge here: nobody's ownership of fields is tracked.
"""

from __future__ import annotations

import copy
from typing import Any

from kpo_async.localcluster.api import schema
from kpo_async.localcluster.store.store import Object


class PatchError(ValueError):
    """The patch cannot be applied to this object."""


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(target: Any, patch: Any, kind: str) -> Any:
    """Strategic merge patch: lists of `kind`'s schema that have a merge key are merged by it.

    Raises PatchError for an entry without its merge key.
    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    if directive == "delete":
        return {}
    fields = schema.types().get(kind, {})
    retained = patch.get("$retainKeys")
    if retained is not None:
        result = {key: value for key, value in result.items() if key in retained}
    for key, value in patch.items():
        if key.startswith("$"):
            name = key.partition("/")[2]
            if key.startswith("$deleteFromPrimitiveList/") and name in result:
                result[name] = [item for item in result[name] if item not in value]
            continue
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _strategic_value(result.get(key), value, fields.get(key, "any"))
    return result


def _strategic_value(target: Any, patch: Any, kind: str) -> Any:
    if kind.startswith("{}"):
        return merge(target, patch)
    if not kind.startswith("[]") or not isinstance(patch, list):
        return strategic(target, patch, kind)
    inner, has_key, key = kind[2:].partition("|")
    if not has_key:
        return patch
    old = list(target or [])
    if not key:
        return old + [item for item in patch if item not in old]
    return _merge_list(old, patch, inner, key)


def _merge_list(old: list[Any], patch: list[Any], kind: str, key: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(old)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise PatchError(f"map: {item} does not contain declared merge key: {key}")
        position = next((i for i, found in enumerate(result) if found.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            if position is not None:
                del result[position]
        elif position is None:
            result.append({name: value for name, value in item.items() if not name.startswith("$")})
        else:
            result[position] = strategic(result[position], item, kind)
    return result


def json_patch(target: Object, operations: list[Any]) -> Object:
    """JSON patch. Raises PatchError when an operation cannot be done or a test fails."""
    document: Any = copy.deepcopy(target)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise PatchError(f"cannot apply {operation}") from error
    if not isinstance(document, dict):
        raise PatchError("the result is not an object")
    return document


def _operate(document: Any, operation: Object) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            _remove(document, path)
        case "replace":
            _find(document, path)
            if not path:
                return operation["value"]
            parent = _find(document, path[:-1])
            parent[_key(parent, path[-1])] = copy.deepcopy(operation["value"])
        case "move":
            return _add(document, path, _remove(document, _pointer(operation["from"])))
        case "copy":
            return _add(document, path, copy.deepcopy(_find(document, _pointer(operation["from"]))))
        case "test":
            if _find(document, path) != operation["value"]:
                raise ValueError("test failed")
        case other:
            raise ValueError(f"unexpected kind: {other}")
    return document


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _key(parent: Any, part: str) -> Any:
    return int(part) if isinstance(parent, list) else part


def _find(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_key(document, part)]
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _find(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
    else:
        parent[path[-1]] = value
    return document


def _remove(document: Any, path: list[str]) -> Any:
    parent = _find(document, path[:-1])
    return parent.pop(_key(parent, path[-1]))
