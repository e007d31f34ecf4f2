"""The verbs of the API on stored resources, except watch: `server` calls them for an authorized request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from kpo_async.localcluster.api import bodies, deletion, errors, listing, patches, tables
from kpo_async.localcluster.api.deletion import DeleteOptions
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.listing import ListOptions
from kpo_async.localcluster.api.registry import ObjectRef, Registry
from kpo_async.localcluster.api.request import ApiRequest
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import encode

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class Operations:
    """One method per verb; each raises StatusError."""

    def __init__(self, registry: Registry, reviews: Reviews, faults: Faults) -> None:
        self.registry = registry
        self.store = registry.store
        self.reviews = reviews
        self.faults = faults

    async def perform(self, request: ApiRequest) -> web.StreamResponse:
        """Answer any request but a watch, a log or an exec."""
        match request.info.verb:
            case "get":
                return await self.get(request)
            case "list":
                return await self.list(request)
            case "create":
                return await self.create(request)
            case "update":
                return await self.update(request)
            case "patch":
                return await self.patch(request)
            case "delete":
                return await self.delete(request)
            case "deletecollection":
                return await self.delete_collection(request)
        raise errors.method_not_allowed()

    async def get(self, request: ApiRequest) -> web.Response:
        if version := request.query.get("resourceVersion", ""):
            await listing.wait_for(self.store, listing.parse_version(version))
        obj = self.registry.get(request.ref)
        if request.transformation:
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return request.response(self._transformed(request, [obj], metadata))
        info = request.info
        return request.raw_response(self.store.stored(info.resource.name, info.namespace, info.name).json + b"\n")

    async def list(self, request: ApiRequest) -> web.Response:
        resource = request.info.resource
        options = ListOptions.parse(resource, request.query)
        version = self.faults.cache_version(request.info) if options.version == "0" else None
        if version is not None and self.store.can_resume(resource.name, version):
            options = replace(options, version=str(version), exact=True)
        page = await listing.page(self.store, resource, request.namespace, options)
        if request.transformation:
            objects = [item.object for item in page.items]
            return await request.compressed_response(
                encode(self._transformed(request, objects, page.metadata())) + b"\n"
            )
        return await request.compressed_response(listing.render(resource, page))

    def _transformed(self, request: ApiRequest, objects: Sequence[Object], metadata: Object) -> Object:
        resource = request.info.resource.name
        match request.transformation:
            case "Table":
                include = request.query.get("includeObject", "")
                return tables.table(resource, objects, metadata, self.store.clock(), include=include)
            case "PartialObjectMetadata":
                return tables.partial(objects[0])
            case "PartialObjectMetadataList":
                items = [tables.partial(obj) for obj in objects]
                kind = "PartialObjectMetadataList"
                return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}
        message = "only the following media types are accepted: application/json, application/yaml"
        raise errors.StatusError(406, message, reason="NotAcceptable")

    async def create(self, request: ApiRequest) -> web.Response:
        resource = request.info.resource
        if request.info.subresource:
            return request.response(await self._create_subresource(request), 201)
        value = await request.load(resource.kind)
        if "get" not in resource.verbs:
            return request.response(self.reviews.answer(resource.name, request.user, value), 201)
        obj = self.registry.create(request.ref, request.decode(value), dry_run=request.dry_run)
        return request.response(obj, 201)

    async def _create_subresource(self, request: ApiRequest) -> Object:
        match request.info.subresource:
            case "eviction":
                return deletion.evict(self.registry, request.ref, await request.load("Eviction"))
            case "binding":
                return deletion.bind(self.registry, request.ref, await request.load("Binding"))
            case "token":
                return self.reviews.token(request.ref, await request.load_optional("TokenRequest"))
        raise errors.method_not_allowed()

    async def update(self, request: ApiRequest) -> web.Response:
        obj = request.decode(await request.load(request.info.resource.kind))
        return request.response(self.registry.update(request.ref, obj, dry_run=request.dry_run))

    async def patch(self, request: ApiRequest) -> web.Response:
        raw, kind = await request.body(), request.http.content_type
        if kind not in (MERGE, STRATEGIC, JSON_PATCH, APPLY):
            raise errors.StatusError(415, "415: Unsupported Media Type", details={})
        if kind == APPLY:
            return self._apply(request, raw)
        patch = _load_patch(raw, kind)

        def change(current: Object) -> Object:
            return request.decode(_patched(current, patch, kind, request.info.resource.kind))

        return request.response(self.registry.modify(request.ref, change, dry_run=request.dry_run))

    def _apply(self, request: ApiRequest, raw: bytes) -> web.Response:
        """Server-side apply, without field ownership."""
        resource, name = request.info.resource, request.info.name
        if not request.query.get("fieldManager"):
            message = "Required value: is required for apply patch"
            raise errors.invalid_options("PatchOptions", "fieldManager", message, "FieldValueRequired")
        value = bodies.load(raw, APPLY, resource.kind)
        given = value.get("metadata", {}).get("name", "")
        if not given:
            undeterminable = "the name of the object (applied based on URL) was undeterminable: name must be provided"
            raise errors.bad_request(undeterminable)
        if given != name:
            message = f"the name of the object ({given}) does not match the name on the URL ({name})"
            raise errors.bad_request(message)
        try:
            self.registry.get(request.ref)
        except errors.NotFound:
            created = ObjectRef(resource, request.info.namespace)
            return request.response(self.registry.create(created, request.decode(value), dry_run=request.dry_run), 201)

        def change(current: Object) -> Object:
            return request.decode(patches.strategic(current, value, resource.kind))

        return request.response(self.registry.modify(request.ref, change, dry_run=request.dry_run))

    async def delete(self, request: ApiRequest) -> web.Response:
        options = DeleteOptions.parse(await request.load_optional("DeleteOptions"), request.query)
        resource = request.info.resource
        obj = deletion.delete(self.registry, request.ref, options)
        if resource.name in ("pods", "namespaces") or obj["metadata"].get("finalizers"):
            return request.response(obj)
        details = errors.details(resource.name, request.info.name, resource.group)
        return request.response(errors.success(details={**details, "uid": obj["metadata"]["uid"]}))

    async def delete_collection(self, request: ApiRequest) -> web.Response:
        resource = request.info.resource
        options = DeleteOptions.parse(await request.load_optional("DeleteOptions"), request.query)
        page = await listing.page(self.store, resource, request.namespace, ListOptions.parse(resource, request.query))
        deleted = []
        for item in page.items:
            metadata = item.object["metadata"]
            ref = ObjectRef(resource, metadata.get("namespace", ""), metadata["name"])
            deleted.append(deletion.delete(self.registry, ref, options))
        return request.response(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": deleted,
            }
        )


def _load_patch(raw: bytes, kind: str) -> Any:
    prefix = "" if kind == STRATEGIC else "error decoding patch: "
    try:
        patch = json.loads(raw)
    except ValueError as error:
        raise errors.bad_request(prefix + bodies.json_problem(raw, error)) from None
    if kind == JSON_PATCH and not isinstance(patch, list):
        message = "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        raise errors.bad_request(prefix + message)
    if kind != JSON_PATCH and not isinstance(patch, dict):
        raise errors.bad_request(
            f"{prefix}json: cannot unmarshal array into Go value of type map[string]interface {{}}"
        )
    return patch


def _patched(current: Object, patch: Any, kind: str, schema_kind: str) -> Object:
    if kind == MERGE:
        merged: Object = patches.merge(current, patch)
        return merged
    try:
        if kind == JSON_PATCH:
            return patches.json_patch(current, patch)
        changed: Object = patches.strategic(current, patch, schema_kind)
        return changed
    except patches.PatchError as error:
        if kind == JSON_PATCH:
            message = "the server rejected our request due to an error in our request"
            raise errors.StatusError(422, message, details={}) from error
        raise errors.bad_request(str(error)) from error
