"""The verbs of the API on stored resources: what `server` calls once a request is routed, authorized and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from kpo_async.localcluster.api import bodies, deletion, errors, listing, patches, tables
from kpo_async.localcluster.api.call import Call
from kpo_async.localcluster.api.deletion import DeleteOptions
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.listing import ListOptions
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.store.store import Object, encode

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class Operations:
    """One method per verb; all raise Refusal."""

    def __init__(self, registry: Registry, reviews: Reviews, faults: Faults) -> None:
        self.registry = registry
        self.store = registry.store
        self.reviews = reviews
        self.faults = faults

    async def perform(self, call: Call) -> web.StreamResponse:
        """The answer to anything but a watch, a log and an exec."""
        match call.route.verb:
            case "get":
                return await self.get(call)
            case "list":
                return await self.list(call)
            case "create":
                return await self.create(call)
            case "update":
                return await self.update(call)
            case "patch":
                return await self.patch(call)
            case "delete":
                return await self.delete(call)
            case "deletecollection":
                return await self.delete_collection(call)
        raise errors.method_not_allowed()

    async def get(self, call: Call) -> web.Response:
        if version := call.query.get("resourceVersion", ""):
            await listing.wait_for(self.store, listing.parse_version(version))
        obj = self.registry.get(call.target)
        if call.transformation:
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            return call.answer(self._transformed(call, [obj], metadata))
        route = call.route
        return call.raw(self.store.stored(route.resource.name, route.namespace, route.name).json + b"\n")

    async def list(self, call: Call) -> web.Response:
        resource = call.route.resource
        options = ListOptions.parse(resource, call.query)
        version = self.faults.lag_version(call.route) if options.version == "0" else None
        if version is not None and self.store.remembers(resource.name, version):
            options = replace(options, version=str(version), exact=True)
        page = await listing.page(self.store, resource, call.namespace, options)
        if call.transformation:
            objects = [item.object for item in page.items]
            return await call.compressed(encode(self._transformed(call, objects, page.metadata())) + b"\n")
        return await call.compressed(listing.render(resource, page))

    def _transformed(self, call: Call, objects: Sequence[Object], metadata: Object) -> Object:
        resource = call.route.resource.name
        match call.transformation:
            case "Table":
                include = call.query.get("includeObject", "")
                return tables.table(resource, objects, metadata, self.store.clock(), include=include)
            case "PartialObjectMetadata":
                return tables.partial(objects[0])
            case "PartialObjectMetadataList":
                items = [tables.partial(obj) for obj in objects]
                kind = "PartialObjectMetadataList"
                return {"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items}
        accepted = "application/json, application/yaml"
        raise errors.Refusal(406, f"only the following media types are accepted: {accepted}", reason="NotAcceptable")

    async def create(self, call: Call) -> web.Response:
        resource = call.route.resource
        match call.route.subresource:
            case "eviction":
                return call.answer(deletion.evict(self.registry, call.target, await call.load("Eviction")), 201)
            case "binding":
                return call.answer(deletion.bind(self.registry, call.target, await call.load("Binding")), 201)
            case "token":
                return call.answer(self.reviews.token(call.target, await call.load_optional("TokenRequest")), 201)
        value = await call.load(resource.kind)
        if "get" not in resource.verbs:
            return call.answer(self.reviews.answer(resource.name, call.identity, value), 201)
        obj = self.registry.create(call.target, call.read(value), dry_run=call.dry_run)
        return call.answer(obj, 201)

    async def update(self, call: Call) -> web.Response:
        obj = call.read(await call.load(call.route.resource.kind))
        return call.answer(self.registry.update(call.target, obj, dry_run=call.dry_run))

    async def patch(self, call: Call) -> web.Response:
        raw, kind = await call.body(), call.request.content_type
        if kind not in (MERGE, STRATEGIC, JSON_PATCH, APPLY):
            raise errors.Refusal(415, "415: Unsupported Media Type", details={})
        if kind == APPLY:
            return self._apply(call, raw)
        patch = _load_patch(raw, kind)

        def change(current: Object) -> Object:
            return call.read(_patched(current, patch, kind, call.route.resource.kind))

        return call.answer(self.registry.modify(call.target, change, dry_run=call.dry_run))

    def _apply(self, call: Call, raw: bytes) -> web.Response:
        """Server-side apply, without its ownership of fields."""
        resource, name = call.route.resource, call.route.name
        if not call.query.get("fieldManager"):
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
            self.registry.get(call.target)
        except errors.Refusal:
            created = Target(resource, call.route.namespace)
            return call.answer(self.registry.create(created, call.read(value), dry_run=call.dry_run), 201)

        def change(current: Object) -> Object:
            return call.read(patches.strategic(current, value, resource.kind))

        return call.answer(self.registry.modify(call.target, change, dry_run=call.dry_run))

    async def delete(self, call: Call) -> web.Response:
        options = DeleteOptions.parse(await call.load_optional("DeleteOptions"), call.query)
        resource = call.route.resource
        obj = deletion.delete(self.registry, call.target, options)
        if resource.name in ("pods", "namespaces") or obj["metadata"].get("finalizers"):
            return call.answer(obj)
        details = errors.details(resource.name, call.route.name, resource.group)
        return call.answer(errors.success(details={**details, "uid": obj["metadata"]["uid"]}))

    async def delete_collection(self, call: Call) -> web.Response:
        resource = call.route.resource
        options = DeleteOptions.parse(await call.load_optional("DeleteOptions"), call.query)
        chosen = await listing.page(self.store, resource, call.namespace, ListOptions.parse(resource, call.query))
        deleted = []
        for item in chosen.items:
            metadata = item.object["metadata"]
            target = Target(resource, metadata.get("namespace", ""), metadata["name"])
            deleted.append(deletion.delete(self.registry, target, options))
        return call.answer(
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
            raise errors.Refusal(422, message, details={}) from error
        raise errors.bad_request(str(error)) from error
