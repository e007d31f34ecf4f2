"""The API server: HTTP in front of the registry. Routes, authenticates, authorizes and counts; faults strike here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import aclosing

from aiohttp import web

from kpo_async.localcluster.api import discovery, errors, pod_streams, request_info, tables, watching
from kpo_async.localcluster.api.authentication import TokenAuthenticator, UserInfo
from kpo_async.localcluster.api.authorization import Authorizer
from kpo_async.localcluster.api.faults import Faults
from kpo_async.localcluster.api.metrics import Metrics, RequestLabels
from kpo_async.localcluster.api.operations import Operations
from kpo_async.localcluster.api.registry import Registry
from kpo_async.localcluster.api.request import ApiRequest, error_response
from kpo_async.localcluster.api.request_info import RequestInfo
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.api.watching import Watch, WatchEvent, WatchOptions
from kpo_async.localcluster.node import Kubelet
from kpo_async.localcluster.store.objects import WatchEventType

_log = logging.getLogger(__name__)

_CLIENT_GONE = 499


class ApiServer:
    """Answers HTTP requests; `handle` is an aiohttp.web low-level handler."""

    def __init__(
        self, registry: Registry, reviews: Reviews, kubelet: Kubelet, authenticator: TokenAuthenticator, faults: Faults
    ) -> None:
        self.registry = registry
        self.store = registry.store
        self.kubelet = kubelet
        self.authenticator = authenticator
        self.authorizer = Authorizer(self.store)
        self.faults = faults
        self.metrics = Metrics()
        self._operations = Operations(registry, reviews, faults)
        self._watches: set[Watch] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            info = request_info.parse(request.method, request.path, request.query)
            if info is None:
                return await self._serve_path(request)
            return await self._counted(request, info)
        except errors.StatusError as error:
            return error_response(error)
        except ConnectionError:
            # The client has disconnected and reads no response; aiohttp would log the exception as an error.
            return web.Response(status=_CLIENT_GONE)
        except Exception as error:  # A bug must look like a server's 500, not like a lost connection.
            _log.exception("%s %s", request.method, request.path)
            return error_response(errors.StatusError(500, f"Internal error occurred: {error}"))

    async def _counted(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        labels = RequestLabels.of(info, dry_run="dryRun" in request.query)
        self.metrics.begin(labels)
        code = 0
        try:
            response = await self._serve(request, info)
            code = response.status
            return response
        except errors.StatusError as error:
            code = error.code
            raise
        finally:
            self.metrics.end(labels, code)

    async def _serve(self, http: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        await self.faults.before(info, http)
        user = self._authenticate(http)
        self.authorizer.check(user, info)
        info.check_method()
        request = ApiRequest(http, info, user)
        if info.verb == "watch":
            return await self._watch(request)
        if info.subresource == "log":
            return await pod_streams.log(request, self.kubelet, self.registry.get(request.ref), self.faults)
        if info.subresource == "exec":
            return await pod_streams.execute(request, self.kubelet, self.registry.get(request.ref))
        return await self._operations.perform(request)

    def _authenticate(self, request: web.BaseRequest) -> UserInfo:
        headers = request.headers
        user = self.authenticator.authenticate(headers.get("Authorization"))
        if name := headers.get("Impersonate-User"):
            groups = tuple(headers.getall("Impersonate-Group", []))
            return self.authenticator.impersonate(user, name, groups)
        return user

    async def _serve_path(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.faults.before(None, request)
        user = self._authenticate(request)
        self.authorizer.check_path(user, request.method, request.path)
        if request.path == "/metrics":
            return web.Response(text=self.metrics.render())
        found = discovery.document(request.path, request.host)
        if found is None:
            return web.Response(status=404, text="404 page not found\n")
        if isinstance(found, str):
            return web.Response(text=found)
        return web.json_response(found)

    async def _watch(self, request: ApiRequest) -> web.StreamResponse:
        resource = request.info.resource
        options = WatchOptions.parse(resource, request.query)
        render = _TableLines(request, self.store.clock) if request.transformation == "Table" else watching.render_json
        watch = Watch(self.store, resource, request.namespace, options)
        self._watches.add(watch)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})
            await response.prepare(request.http)
            frames = watch.frames(render)
            sent = self.faults.stream(request.info, request.http, frames)
            async with aclosing(frames), aclosing(sent):
                async for frame in sent:
                    await response.write(frame)
            await response.write_eof()
            return response
        finally:
            watch.stop()
            self._watches.discard(watch)

    def expire_watches(self) -> None:
        """End all watches with the ERROR that their version has expired."""
        for watch in tuple(self._watches):
            watch.expire()

    def end_watches(self) -> None:
        """End all watches cleanly, as a server does that shuts down."""
        for watch in tuple(self._watches):
            watch.stop()


class _TableLines:
    """Renders the events of a watch as tables, for `kubectl get --watch`; only the first table has the columns."""

    def __init__(self, request: ApiRequest, clock: Callable[[], int]) -> None:
        self._request = request
        self._clock = clock
        self._columns = True

    def __call__(self, event: WatchEvent) -> bytes:
        if event.type in (WatchEventType.BOOKMARK, WatchEventType.ERROR):
            return watching.render_json(event)
        metadata = {"resourceVersion": str(event.stored.version)}
        include = self._request.query.get("includeObject", "")
        resource = self._request.info.resource.name
        table = tables.table(resource, [event.object], metadata, self._clock(), columns=self._columns, include=include)
        self._columns = False
        return json.dumps({"type": event.type.value, "object": table}).encode() + b"\n"
