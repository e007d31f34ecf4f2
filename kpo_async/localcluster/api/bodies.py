"""Parses and decodes request bodies: JSON, YAML or protobuf of the right kind."""

from __future__ import annotations

import json
from typing import Any

import yaml

from kpo_async.localcluster.api import errors, protobuf, schema
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.api.schema import Decoded

SIZE_LIMIT = 3 * 1024 * 1024
_MEDIA_TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_YAML = ("application/yaml", "application/apply-patch+yaml", "text/yaml")


def check_size(size: int) -> None:
    """Raise StatusError (413) for more bytes than a real server accepts."""
    if size > SIZE_LIMIT:
        raise errors.StatusError(413, f"Request entity too large: limit is {SIZE_LIMIT}", details={})


def load(raw: bytes, content_type: str, kind: str) -> Any:
    """Parse a body. Raises StatusError (400, 415)."""
    unrecognized = f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind"
    if content_type in _YAML:
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise errors.bad_request(f"{unrecognized}; yaml parse error: {error}") from None
    elif content_type == protobuf.MEDIA_TYPE:
        try:
            value = protobuf.load(raw)
        except (ValueError, AttributeError) as error:
            raise errors.bad_request(f"{unrecognized}; {error}") from None
    elif content_type in ("application/json", ""):
        try:
            value = json.loads(raw)
        except ValueError as error:
            shown = raw[:100].decode(errors="replace") or "<empty>"
            raise errors.bad_request(
                f"{unrecognized}; json parse error: {json_problem(raw, error)} ({shown})"
            ) from None
    else:
        message = "the body of the request was in an unknown format - accepted media types include: " + _MEDIA_TYPES
        raise errors.StatusError(415, message)
    if not isinstance(value, dict):
        raise errors.bad_request(f"{unrecognized}; json parse error: json: cannot unmarshal {type(value).__name__}")
    return value


def json_problem(raw: bytes, error: ValueError) -> str:
    """Return what is wrong with a JSON text, close to Go's wording."""
    position = getattr(error, "pos", 0)
    text = raw.decode(errors="replace")
    if position >= len(text.rstrip()):
        return "unexpected end of JSON input"
    place = "object key string" if "property name" in str(error) else "value"
    return f"invalid character '{text[position]}' looking for beginning of {place}"


def decode(value: Any, resource: Resource, *, strict: bool) -> Decoded:
    """Decode an object of the resource's kind.

    Raises StatusError (400) for another kind, wrong types, or unknown fields if `strict`.
    """
    kind, version = value.get("kind") or resource.kind, value.get("apiVersion") or resource.api_version
    wanted = f"cannot be handled as a {resource.kind}"
    if kind != resource.kind:
        message = f'{kind} in version "{version}" {wanted}: converting (v1.{kind}) to (core.{resource.kind}): '
        raise errors.bad_request(message + "unknown conversion")
    if version != resource.api_version:
        message = f'{kind} in version "{version}" {wanted}: no kind "{kind}" is registered for version "{version}" '
        raise errors.bad_request(message + 'in scheme "pkg/runtime/scheme.go:110"')
    decoded = schema.decode(value, resource.kind)
    if strict and decoded.unknown:
        listed = ", ".join(f'unknown field "{field}"' for field in decoded.unknown)
        message = f'{resource.kind} in version "{resource.version}" {wanted}: strict decoding error: {listed}'
        raise errors.bad_request(message)
    return decoded


def warnings(decoded: Decoded) -> list[str]:
    """Return the values of the `Warning` headers for the fields that were dropped."""
    return [f'299 - "unknown field \\"{field}\\""' for field in decoded.unknown]
