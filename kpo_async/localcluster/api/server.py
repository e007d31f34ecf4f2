"""The API server: HTTP in front of the registry. Routes, authenticates, authorizes, counts; faults interfere here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import aclosing

from aiohttp import web

from kpo_async.localcluster.api import discovery, errors, pod_streams, route, tables, watching
from kpo_async.localcluster.api.access import Authorizer
from kpo_async.localcluster.api.call import Call, refused
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.identity import Authenticator, Identity
from kpo_async.localcluster.api.metrics import Metrics, Request
from kpo_async.localcluster.api.operations import Operations
from kpo_async.localcluster.api.registry import Registry
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.api.watching import Watch, WatchOptions
from kpo_async.localcluster.node import Kubelet
from kpo_async.localcluster.store.store import Change, EventType, Stored

_log = logging.getLogger(__name__)

_CLIENT_GONE = 499


class ApiServer:
    """Answers HTTP requests; `handle` is an aiohttp.web low-level handler."""

    def __init__(self, registry: Registry, kubelet: Kubelet, authenticator: Authenticator, faults: Faults) -> None:
        self.registry = registry
        self.store = registry.store
        self.kubelet = kubelet
        self.authenticator = authenticator
        self.authorizer = Authorizer(self.store)
        self.faults = faults
        self.metrics = Metrics()
        self._operations = Operations(registry, Reviews(registry, authenticator, self.authorizer), faults)
        self._watches: set[Watch] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its first byte to its last."""
        try:
            found = route.parse(request.method, request.path, request.query)
            if found is None:
                return await self._serve_path(request)
            return await self._counted(request, found)
        except errors.Refusal as refusal:
            return refused(refusal)
        except ConnectionError:
            # The client has gone: nobody reads this, but aiohttp would log anything else as an error.
            return web.Response(status=_CLIENT_GONE)
        except Exception as error:  # A bug here must look like a server's 500, not like a lost connection.
            _log.exception("%s %s", request.method, request.path)
            return refused(errors.Refusal(500, f"Internal error occurred: {error}"))

    async def _counted(self, request: web.BaseRequest, found: route.Route) -> web.StreamResponse:
        counted = Request.of(found, dry_run="dryRun" in request.query)
        self.metrics.begin(counted)
        code = 0
        try:
            response = await self._serve(request, found)
            code = response.status
            return response
        except errors.Refusal as refusal:
            code = refusal.code
            raise
        finally:
            self.metrics.end(counted, code)

    async def _serve(self, request: web.BaseRequest, found: route.Route) -> web.StreamResponse:
        await self.faults.before(found, request)
        identity = self._identify(request)
        self.authorizer.check(identity, found)
        found.check_method()
        call = Call(request, found, identity)
        if found.verb == "watch":
            return await self._watch(call)
        if found.subresource == "log":
            return await pod_streams.log(call, self.kubelet, self.registry.get(call.target), self.faults)
        if found.subresource == "exec":
            return await pod_streams.execute(call, self.kubelet, self.registry.get(call.target))
        return await self._operations.perform(call)

    def _identify(self, request: web.BaseRequest) -> Identity:
        headers = request.headers
        identity = self.authenticator.identify(headers.get("Authorization"))
        if user := headers.get("Impersonate-User"):
            groups = tuple(headers.getall("Impersonate-Group", []))
            return self.authenticator.impersonate(identity, user, groups)
        return identity

    async def _serve_path(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.faults.before(None, request)
        identity = self._identify(request)
        self.authorizer.check_path(identity, request.method, request.path)
        if request.path == "/metrics":
            return web.Response(text=self.metrics.render())
        found = discovery.document(request.path, request.host)
        if found is None:
            return web.Response(status=404, text="404 page not found\n")
        if isinstance(found, str):
            return web.Response(text=found)
        return web.json_response(found)

    async def _watch(self, call: Call) -> web.StreamResponse:
        resource = call.route.resource
        options = WatchOptions.parse(resource, call.query)
        render = _TableLines(call, self.store.clock) if call.transformation == "Table" else watching.render_json
        watch = Watch(self.store, resource, call.namespace, options, render)
        self._watches.add(watch)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})
            await response.prepare(call.request)
            frames = watch.frames()
            told = self.faults.stream(call.route, call.request, frames)
            async with aclosing(frames), aclosing(told):
                async for frame in told:
                    await response.write(frame)
            await response.write_eof()
            return response
        finally:
            watch.stop()
            self._watches.discard(watch)

    def expire_watches(self) -> None:
        """Tell all watches that their version has expired, which ends them."""
        for watch in tuple(self._watches):
            watch.expire()

    def end_watches(self) -> None:
        """End all watches cleanly, as a server does that shuts down."""
        for watch in tuple(self._watches):
            watch.stop()


class _TableLines:
    """Renders a watch's events as tables, for `kubectl get --watch`; the columns come with the first only."""

    def __init__(self, call: Call, clock: Callable[[], int]) -> None:
        self._call = call
        self._clock = clock
        self._columns = True

    def __call__(self, kind: EventType, stored: Stored, change: Change | None) -> bytes:
        metadata = {"resourceVersion": str(stored.version)}
        include = self._call.query.get("includeObject", "")
        resource = self._call.route.resource.name
        table = tables.table(resource, [stored.object], metadata, self._clock(), columns=self._columns, include=include)
        self._columns = False
        return json.dumps({"type": kind.value, "object": table}).encode() + b"\n"
