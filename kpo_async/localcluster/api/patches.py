"""The four kinds of patch: JSON merge (RFC 7386), JSON patch (RFC 6902), strategic merge and server-side apply.

Pure functions on plain JSON. Server-side apply is treated as a strategic merge: field ownership is not tracked.
"""

from __future__ import annotations

from typing import Any

import jsonpatch

from kpo_async.localcluster.api import schema
from kpo_async.localcluster.store.objects import Object


class PatchError(ValueError):
    """The patch cannot be applied to this object."""


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch."""
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
    """Apply a strategic merge patch: a list whose schema has a merge key is merged by that key.

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
    """Apply a JSON patch to a copy. Raises PatchError when an operation is invalid or its test fails."""
    try:
        patched = jsonpatch.JsonPatch(operations).apply(target)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError) as error:
        raise PatchError(f"cannot apply the patch: {error}") from error
    if not isinstance(patched, dict):
        raise PatchError("the result is not an object")
    return patched
