"""One request as the operations see it, and the responses they give."""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from kpo_async.localcluster.api import bodies, deletion, errors
from kpo_async.localcluster.api.identity import Identity
from kpo_async.localcluster.api.registry import Target
from kpo_async.localcluster.api.route import Route
from kpo_async.localcluster.store.store import Object, encode

GZIP_FROM = 128 * 1024
"""Bytes from which an answer is compressed for a client that accepts it, as on a real server."""
_FIELD_VALIDATIONS = ("", "Ignore", "Strict", "Warn")


@dataclass
class Call:
    """A request on a resource, after authentication."""

    request: web.BaseRequest
    route: Route
    identity: Identity
    warnings: list[str] = field(default_factory=list)

    @property
    def query(self) -> dict[str, str]:
        return dict(self.request.query)

    @property
    def target(self) -> Target:
        route = self.route
        return Target(route.resource, route.namespace, route.name, route.subresource)

    @property
    def namespace(self) -> str | None:
        """The namespace of a list or a watch, None for all."""
        return self.route.namespace or None

    @property
    def transformation(self) -> str:
        """What the Accept header wants the object turned into: Table, PartialObjectMetadata(List), or nothing."""
        for clause in self.request.headers.get("Accept", "").split(","):
            parts = [part.strip() for part in clause.split(";")]
            if parts[0] == "application/json":
                return next((part[3:] for part in parts if part.startswith("as=")), "")
        return ""

    async def body(self) -> bytes:
        """Raises Refusal (413)."""
        bodies.check_size(self.request.content_length or 0)
        raw = await self.request.content.read()
        bodies.check_size(len(raw))
        return raw

    async def load(self, kind: str) -> Any:
        """The value in the body, an empty one for none. Raises Refusal (400, 413, 415)."""
        return bodies.load(await self.body(), self.request.content_type, kind)

    async def load_optional(self, kind: str) -> Any:
        raw = await self.body()
        return bodies.load(raw, self.request.content_type, kind) if raw.strip() else {}

    def read(self, value: Any) -> Object:
        """The object in a value; notes warnings for what is dropped. Raises Refusal (400, 422)."""
        mode = self.query.get("fieldValidation", "")
        if mode not in _FIELD_VALIDATIONS:
            listed = ", ".join(f'"{known}"' for known in _FIELD_VALIDATIONS)
            message = f'Unsupported value: "{mode}": supported values: {listed}'
            raise errors.invalid_options(self.options_kind, "fieldValidation", message, "FieldValueNotSupported")
        decoded = bodies.read(value, self.route.resource, strict=mode == "Strict")
        if mode != "Ignore":
            self.warnings += bodies.warnings(decoded)
        return decoded.object

    @property
    def options_kind(self) -> str:
        return {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}[self.route.verb]

    @property
    def dry_run(self) -> bool:
        """Raises Refusal (422) for a `dryRun` that is not All."""
        return deletion.check_dry_run(self.options_kind, self.request.query.getall("dryRun", []))

    def answer(self, obj: Object, code: int = 200) -> web.Response:
        """A JSON response."""
        return self.raw(encode(obj) + b"\n", code)

    def raw(self, body: bytes, code: int = 200) -> web.Response:
        response = web.Response(body=body, status=code, content_type="application/json")
        for warning in self.warnings:
            response.headers.add("Warning", warning)
        return response

    async def compressed(self, body: bytes) -> web.Response:
        """A JSON response, gzipped when it is large and the client wants it so."""
        if len(body) < GZIP_FROM or "gzip" not in self.request.headers.get("Accept-Encoding", ""):
            return self.raw(body)
        response = self.raw(await asyncio.to_thread(gzip.compress, body, 1))
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
        return response


def refused(refusal: errors.Refusal) -> web.Response:
    """The response that tells a refusal."""
    body = json.dumps(refusal.status(), separators=(",", ":")).encode() + b"\n"
    response = web.Response(body=body, status=refusal.code, content_type="application/json")
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response
