"""An authenticated request on a resource, and the responses that operations make of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from kpo_async.localcluster.api import bodies, deletion, errors
from kpo_async.localcluster.api.authentication import UserInfo
from kpo_async.localcluster.api.registry import ObjectRef
from kpo_async.localcluster.api.request_info import RequestInfo
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import encode

GZIP_FROM = 128 * 1024
"""Bytes from which a response is compressed for a client that accepts gzip, as on a real server."""
_FIELD_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


@dataclass
class ApiRequest:
    """A request on a resource, after authentication."""

    http: web.BaseRequest
    info: RequestInfo
    user: UserInfo
    warnings: list[str] = field(default_factory=list)
    """Values of the response's `Warning` headers."""

    @property
    def query(self) -> dict[str, str]:
        """The query; of a repeated parameter, the first value."""
        return dict(self.http.query)

    @property
    def ref(self) -> ObjectRef:
        """The object that the request is about."""
        info = self.info
        return ObjectRef(info.resource, info.namespace, info.name, info.subresource)

    @property
    def namespace(self) -> str | None:
        """The namespace of a list or a watch, None for all namespaces."""
        return self.info.namespace or None

    @property
    def transformation(self) -> str:
        """The form that the Accept header asks for: Table, PartialObjectMetadata(List), or "" for the object itself."""
        for clause in self.http.headers.get("Accept", "").split(","):
            parts = [part.strip() for part in clause.split(";")]
            if parts[0] == "application/json":
                return next((part[3:] for part in parts if part.startswith("as=")), "")
        return ""

    async def body(self) -> bytes:
        """Read the body. Raises StatusError (413)."""
        bodies.check_size(self.http.content_length or 0)
        raw = await self.http.content.read()
        bodies.check_size(len(raw))
        return raw

    async def load(self, kind: str) -> Any:
        """Parse the body. Raises StatusError (400, 413, 415)."""
        return bodies.load(await self.body(), self.http.content_type, kind)

    async def load_optional(self, kind: str) -> Any:
        """Parse the body; an empty body is an empty object. Raises StatusError (400, 413, 415)."""
        raw = await self.body()
        return bodies.load(raw, self.http.content_type, kind) if raw.strip() else {}

    def decode(self, value: Any) -> Object:
        """Decode a parsed body to an object; adds warnings for dropped fields. Raises StatusError (400, 422)."""
        mode = self.query.get("fieldValidation", "")
        if mode not in _FIELD_VALIDATIONS:
            listed = ", ".join(f'"{known}"' for known in _FIELD_VALIDATIONS)
            message = f'Unsupported value: "{mode}": supported values: {listed}'
            raise errors.invalid_options(self.options_kind, "fieldValidation", message, "FieldValueNotSupported")
        decoded = bodies.decode(value, self.info.resource, strict=mode == "Strict")
        if mode != "Ignore":
            self.warnings += bodies.warnings(decoded)
        return decoded.object

    @property
    def options_kind(self) -> str:
        """The kind of the options in the query of a create, update or patch."""
        return {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}[self.info.verb]

    @property
    def dry_run(self) -> bool:
        """Whether `dryRun` is All. Raises StatusError (422) for any other value."""
        return deletion.check_dry_run(self.options_kind, self.http.query.getall("dryRun", []))

    def response(self, obj: Object, code: int = 200) -> web.Response:
        """Return a JSON response."""
        return self.raw_response(encode(obj) + b"\n", code)

    def raw_response(self, body: bytes, code: int = 200) -> web.Response:
        """Return a response of encoded JSON."""
        response = web.Response(body=body, status=code, content_type="application/json")
        for warning in self.warnings:
            response.headers.add("Warning", warning)
        return response

    async def compressed_response(self, body: bytes) -> web.Response:
        """Return a response of encoded JSON, gzipped when it is large and the client accepts gzip."""
        if len(body) < GZIP_FROM or "gzip" not in self.http.headers.get("Accept-Encoding", ""):
            return self.raw_response(body)
        response = self.raw_response(await asyncio.to_thread(gzip.compress, body, 1))
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        return response


def error_response(error: errors.StatusError) -> web.Response:
    """Return the response that carries an error's `Status`."""
    body = json.dumps(error.status(), separators=(",", ":")).encode() + b"\n"
    response = web.Response(body=body, status=error.code, content_type="application/json")
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
