"""Decodes request bodies as the API server's Go structs do: typed, without unknown fields and zero values.

The types come from `schema.json`, generated from a real server's OpenAPI (`scripts/localcluster_schema.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_GO_NAMES = {"Time": "string", "MicroTime": "string", "bytes": "[]byte", "float64": "float64"}
_ABSENT: Any = object()


@cache
def types() -> dict[str, dict[str, str]]:
    """Return each type's fields and their types, in the notation that the generator documents."""
    loaded: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("schema.json").read_text())
    return loaded


@dataclass
class Decoded:
    """A decoded object, and the paths of the unknown fields that were dropped."""

    object: Object
    unknown: list[str] = field(default_factory=list)


def decode(value: Any, kind: str) -> Decoded:
    """Decode `value` to an object of type `kind`. Raises StatusError (400) for wrong types, worded as by Go."""
    decoder = _Decoder(kind)
    decoded = decoder.struct(value, kind, ())
    return Decoded({} if decoded is _ABSENT else decoded, decoder.unknown)


class _Decoder:
    """Decodes one object of a kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.unknown: list[str] = []

    def error(self, message: str) -> errors.StatusError:
        return errors.bad_request(f'{self.kind} in version "v1" cannot be handled as a {self.kind}: {message}')

    def mismatch(self, value: Any, owner: str, path: tuple[str, ...], kind: str) -> errors.StatusError:
        where = f"Go struct field {owner}.{'.'.join(path)}" if path else "Go value"
        return self.error(f"json: cannot unmarshal {_json_name(value)} into {where} of type {_go_name(kind)}")

    def struct(self, value: Any, kind: str, path: tuple[str, ...], where: str = "", owner: str = "") -> Any:
        if value is None:
            return _ABSENT
        if not isinstance(value, dict):
            raise self.mismatch(value, owner or kind, path, f"v1.{kind}")
        fields = types()[kind]
        result: Object = {}
        for key, item in value.items():
            below = f"{where}.{key}" if where else str(key)
            if key not in fields:
                self.unknown.append(below)
                continue
            read = self.value(item, fields[key], (*path, key), below, kind)
            if read is not _ABSENT:
                result[key] = read
        return result

    def value(self, value: Any, kind: str, path: tuple[str, ...], where: str, owner: str) -> Any:
        """Decode one field; `path` has no indexes, for Go's errors, `where` has them, for warnings."""
        if value is None:
            return _ABSENT
        if kind.startswith("[]"):
            return self.items(value, kind, path, where, owner)
        if kind.startswith("{}"):
            return self.mapping(value, kind, path, where, owner)
        if kind in types():
            return self.struct(value, kind, path, where, owner)
        return self.scalar(value, kind, path, owner)

    def items(self, value: Any, kind: str, path: tuple[str, ...], where: str, owner: str) -> Any:
        inner = kind[2:].partition("|")[0]
        if not isinstance(value, list):
            raise self.mismatch(value, owner, path, kind)
        read = [self.value(item, inner, path, f"{where}[{index}]", owner) for index, item in enumerate(value)]
        # A null or empty entry becomes the type's zero value, in place.
        zero: Any = {} if inner in types() else ""
        return [zero if item is _ABSENT else item for item in read] or _ABSENT

    def mapping(self, value: Any, kind: str, path: tuple[str, ...], where: str, owner: str) -> Any:
        if not isinstance(value, dict):
            raise self.mismatch(value, owner, path, f"map[string]{_go_name(kind[2:])}")
        read = {key: self.value(item, kind[2:], path, f"{where}.{key}", owner) for key, item in value.items()}
        return {str(key): "" if item is _ABSENT else item for key, item in read.items()} or _ABSENT

    def scalar(self, value: Any, kind: str, path: tuple[str, ...], owner: str) -> Any:
        match kind:
            case "string":
                self.expect(value, str, kind, path, owner)
            case "bool":
                self.expect(value, bool, kind, path, owner)
                return value
            case "int32" | "int64":
                if isinstance(value, bool) or not isinstance(value, int):
                    raise self.mismatch(value, owner, path, kind)
                return value
            case "Quantity":
                return self.quantity(value)
            case "bytes":
                self.expect(value, str, kind, path, owner)
                return self.base64(value)
            case "Time" | "MicroTime":
                self.expect(value, str, kind, path, owner)
                return self.time(value)
        return _ABSENT if value == "" else value

    def expect(self, value: Any, python: type, kind: str, path: tuple[str, ...], owner: str) -> None:
        if not isinstance(value, python):
            raise self.mismatch(value, owner, path, kind)

    def quantity(self, value: Any) -> str:
        text = value if isinstance(value, str) else json.dumps(value)
        if not _QUANTITY.fullmatch(text):
            raise self.error(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
        if not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]*(?:[numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?", text):
            raise self.error("unable to parse quantity's suffix")
        return text

    def base64(self, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            bad = re.search(r"[^A-Za-z0-9+/]", value)
            raise self.error(f"illegal base64 data at input byte {bad.start() if bad else len(value)}") from None
        return value

    def time(self, value: str) -> Any:
        try:
            times.parse(value)
        except ValueError:
            layout = "2006-01-02T15:04:05Z07:00"
            raise self.error(
                f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"',
            ) from None
        return value


def _json_name(value: Any) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
    return "object"


def _go_name(kind: str) -> str:
    if kind.startswith("[]"):
        return "[]" + _go_name(kind[2:].partition("|")[0])
    if kind in types():
        return f"v1.{kind}"
    return _GO_NAMES.get(kind, kind)
