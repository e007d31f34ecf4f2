"""Decodes Kubernetes' protobuf bodies, which kubectl sends for some commands whatever the server supports.

Responses are always JSON. The fields of the messages come from `protobuf.json` (`scripts/localcluster_schema.py`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@cache
def _messages() -> dict[str, dict[str, list[str]]]:
    loaded: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("protobuf.json").read_text())
    return loaded


def load(raw: bytes) -> Object:
    """Return the object in a body: an envelope with its kind around the message. Raises ValueError."""
    if not raw.startswith(_MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message")
    envelope = dict(_fields(raw[len(_MAGIC) :]))
    kind = {number: value.decode() for number, value in _fields(envelope.get(1, b""))}
    obj = {"apiVersion": kind.get(1, ""), "kind": kind.get(2, "")}
    if obj["kind"] not in _messages():
        raise ValueError(f"unknown message kind {obj['kind']!r}")
    return {**obj, **_message(envelope.get(2, b""), obj["kind"])}


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the numbered fields of a message: integers, or bytes."""
    position = 0
    while position < len(raw):
        key, position = _varint(raw, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(raw, position)
            yield number, value
            continue
        if wire == _BYTES:
            size, position = _varint(raw, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")
        if position + size > len(raw):
            raise ValueError("the message is truncated")
        yield number, raw[position : position + size]
        position += size


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(raw):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position
    raise ValueError("the message is truncated")


def _message(raw: bytes, kind: str) -> Object:
    known = _messages()[kind]
    result: Object = {}
    for number, value in _fields(raw):
        if str(number) not in known:
            continue
        name, kind_of_field = known[str(number)]
        if not name:
            result |= _message(value, kind_of_field)
        elif kind_of_field.startswith("[]"):
            result.setdefault(name, []).append(_value(value, kind_of_field[2:]))
        elif kind_of_field.startswith("{}"):
            entry = dict(_fields(value))
            result.setdefault(name, {})[entry.get(1, b"").decode()] = _value(entry.get(2, b""), kind_of_field[2:])
        else:
            result[name] = _value(value, kind_of_field)
    return result


def _value(value: Any, kind: str) -> Any:
    match kind:
        case "string":
            return value.decode()
        case "bool":
            return bool(value)
        case "int32" | "int64":
            return value - (1 << 64) if value >> 63 else value
        case "bytes":
            return base64.b64encode(value).decode()
        case "Time" | "MicroTime":
            found = dict(_fields(value))
            instant = found.get(1, 0) * times.SECOND + found.get(2, 0)
            if not found:
                return None
            return times.to_seconds(instant) if kind == "Time" else times.to_micros(instant)
        case "Quantity":
            return dict(_fields(value)).get(1, b"0").decode()
        case "IntOrString":
            found = dict(_fields(value))
            return found.get(3, b"").decode() if found.get(1) else found.get(2, 0)
    return _message(value, kind) if kind in _messages() else None
