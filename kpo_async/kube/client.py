"""The calls to an API server: get, list, create, patch, delete, log, watch, exec; and clients that are shared.

`_call` holds the one retry policy. Streams are not retried here: their readers know where to resume. Deadlines belong
to the caller, who may cancel any call at any time. The only exceptions raised are `ApiError` and its subclasses.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote

import msgspec

from kpo_async.compat import Self
from kpo_async.exceptions import ApiError
from kpo_async.json_types import Json
from kpo_async.kube.auth import ClusterConfig, ClusterSource, load
from kpo_async.kube.errors import Action, from_response
from kpo_async.kube.remote_command import PROTOCOL, ExecResult, collect
from kpo_async.kube.retry import Backoff, TokenBucket, is_retried
from kpo_async.kube.server_clock import ServerClock
from kpo_async.kube.server_warnings import ServerWarnings
from kpo_async.kube.shared import SharedPerLoop
from kpo_async.kube.transport import Pool, Request, Transport

_OBJECT = msgspec.json.Decoder(Json)
logger = logging.getLogger(__name__)

RETRY_BUDGET = 25.0
"""Seconds a unary call may take, retries included, so that an unreachable server is reported within 30 s."""
HEADER_TIMEOUT = 30.0
"""Seconds until the headers of a stream must have arrived; those of a quiet watch take milliseconds."""
_GROUPS = {"selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1"}
_MERGE_PATCH = "application/merge-patch+json"


class Client:
    """Calls to one API server under one identity, from one event loop. An async context manager."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        retry_budget: float = RETRY_BUDGET,
        rate: float | None = None,
        burst: int | None = None,
    ) -> None:
        """`retry_budget`: seconds for a unary call, retries included.

        `rate`, `burst`: unary calls a second, and at once; by default the config's, and twice as many.
        """
        self.config = config
        self._transport = Transport(config)
        self._budget = retry_budget
        self._backoff = Backoff()
        rate = rate or config.requests_per_second
        self._bucket = TokenBucket(rate, burst or max(1, int(2 * rate)))
        self._closers: dict[Callable[[], Awaitable[None]], None] = {}
        self._version: tuple[int, int] | None = None
        self._warnings = ServerWarnings()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Calls and streams under way fail."""
        for close in list(self._closers):
            await close()
        await self._transport.close()

    @property
    def clock(self) -> ServerClock:
        """The server's clock, which the times in its objects come from."""
        return self._transport.clock

    def on_close(self, close: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Register `close` to be awaited before the connections are closed, for background tasks that use this client.

        Return a function that unregisters it.
        """
        self._closers[close] = None
        return lambda: self._closers.pop(close, None)

    async def get(self, resource: str, name: str, namespace: str = "") -> Json:
        """One object. Raises `NotFoundError` and the rest of the `ApiError` tree, as all methods here do."""
        return await self._json(self._request("get", resource, namespace, name))

    async def list(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        continue_token: str = "",
        resource_version: str | None = None,
        resource_version_match: str = "",
    ) -> Json:
        """One list as the server sends it. There is another page if `metadata.continue` is set."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit,
            resourceVersion=resource_version,
            resourceVersionMatch=resource_version_match,
            **{"continue": continue_token},
        )
        return await self._json(self._request("list", resource, namespace, query=query))

    async def create(self, resource: str, body: Json, namespace: str = "", *, dry_run: bool = False) -> Json:
        """Create an object. Retried like all calls: a 409 may be about the object that a failed first try created."""
        query = _query(dryRun="All" if dry_run else None)
        name = body.get("metadata", {}).get("name", "")
        return await self._json(self._request("create", resource, namespace, name, query=query, body=body))

    async def patch(self, resource: str, name: str, body: Json, namespace: str = "") -> Json:
        """Apply a JSON merge patch (RFC 7386)."""
        return await self._json(self._request("patch", resource, namespace, name, body=body))

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> Json:
        """Delete the object, and only the one with `uid` and in `resource_version` if given (else `ConflictError`)."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        required = {"uid": uid, "resourceVersion": resource_version}
        if preconditions := {name: value for name, value in required.items() if value}:
            body["preconditions"] = preconditions
        if grace_period_seconds is not None:
            body["gracePeriodSeconds"] = grace_period_seconds
        return await self._json(self._request("delete", resource, namespace, name, body=body))

    async def review_access(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether this identity may `verb` `resource` ("pods", "pods/log") in `namespace`, as the server decides it."""
        kind, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "resource": kind, "subresource": subresource, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        review = await self.create("selfsubjectaccessreviews", body)
        return bool(review["status"].get("allowed"))

    async def read_path(self, path: str) -> bytes:
        """The body of a GET outside the resources, such as `/metrics`."""
        return await self._call(Request(Action("get", path, server=self.config.server), "GET", path, Pool.CALLS))

    async def version(self) -> tuple[int, int]:
        """The server's Kubernetes version, (major, minor). Requested once."""
        if self._version is None:
            body = await self.read_path("/version")
            # Managed clusters append a sign: minor "34+".
            found = re.search(rb'"major": *"(\d+).*"minor": *"(\d+)', body, re.DOTALL)
            if found is None:
                raise from_response(Action("get", "/version", server=self.config.server), 200, body)
            self._version = int(found[1]), int(found[2])
        return self._version

    def log(
        self,
        name: str,
        namespace: str,
        *,
        container: str,
        follow: bool = False,
        timestamps: bool = True,
        since_time: str | None = None,
        tail_lines: int | None = None,
        limit_bytes: int | None = None,
        previous: bool = False,
        idle_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a container's log, in chunks as they arrive (not lines). `since_time` is RFC 3339 with nanoseconds.

        `idle_timeout`: seconds without a byte until `UnreachableError`. Raises `NotStartedError` while there is no log.
        """
        query = _query(
            container=container,
            follow=follow,
            timestamps=timestamps,
            sinceTime=since_time,
            tailLines=tail_lines,
            limitBytes=limit_bytes,
            previous=previous,
        )
        return self._stream("get", "pods/log", namespace, name, Pool.LOGS, query, idle_timeout)

    def list_stream(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int | None = None,
        continue_token: str = "",
        resource_version: str | None = None,
        idle_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a raw list, in chunks as they arrive. For `watcher.py`, which decodes it and has its own backoff."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit,
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        return self._stream("list", resource, namespace, "", Pool.WATCH, query, idle_timeout)

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
        timeout_seconds: int | None = None,
        allow_bookmarks: bool = True,
        send_initial_events: bool = False,
        idle_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a raw watch, in chunks as they arrive. For `watcher.py`, which decodes it.

        `idle_timeout`: seconds without a byte until `UnreachableError`.
        """
        query = _query(
            watch=True,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            timeoutSeconds=timeout_seconds,
            allowWatchBookmarks=allow_bookmarks,
            sendInitialEvents=send_initial_events,
            resourceVersionMatch="NotOlderThan" if send_initial_events else None,
        )
        return self._stream("watch", resource, namespace, "", Pool.WATCH, query, idle_timeout)

    async def exec(self, name: str, namespace: str, *, container: str, command: Sequence[str]) -> ExecResult:
        """Run a command in a running container, without stdin or terminal, and wait for its end. Never retried.

        Requires the right to `get` `pods/exec`; from Kubernetes 1.35 on, to `create` it.
        """
        action = Action("create", "pods/exec", name, namespace, self.config.server)
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", argument) for argument in command]
        request = Request(action, "GET", object_path("pods/exec", namespace, name), Pool.LOGS, query)
        deadline = asyncio.get_running_loop().time() + HEADER_TIMEOUT
        async with self._transport.websocket(request, PROTOCOL, deadline) as socket:
            return await collect(socket, action)

    @asynccontextmanager
    async def _stream(
        self,
        verb: str,
        resource: str,
        namespace: str,
        name: str,
        pool: Pool,
        query: Mapping[str, str],
        idle_timeout: float | None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A response without a time limit; only its headers have a deadline."""
        action = Action(verb, resource, name, namespace, self.config.server)
        path = object_path(resource, namespace, name)
        request = Request(action, "GET", path, pool, query, idle_timeout=idle_timeout)
        deadline = asyncio.get_running_loop().time() + HEADER_TIMEOUT
        async with self._transport.exchange(request, deadline) as response:
            yield response

    def _request(
        self,
        verb: str,
        resource: str,
        namespace: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> Request:
        """A unary call. The path of a create has no name, unless it creates a subresource."""
        method = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}.get(verb, "GET")
        is_unnamed = verb == "create" and "/" not in resource
        return Request(
            Action(verb, resource, name, namespace, self.config.server),
            method,
            object_path(resource, namespace, "" if is_unnamed else name),
            Pool.CALLS,
            query or {},
            None if body is None else msgspec.json.encode(body),
            _MERGE_PATCH if verb == "patch" else "application/json",
            idle_timeout=self._budget,
        )

    async def _json(self, request: Request) -> Json:
        """Send a unary call and decode the object of its response."""
        body = await self._call(request)
        try:
            return _OBJECT.decode(body)
        except msgspec.MsgspecError:
            raise from_response(request.action, 200, body) from None

    async def _call(self, request: Request) -> bytes:
        """Send a unary call. Failures are retried with backoff as long as the next try fits into the budget."""
        loop = asyncio.get_running_loop()
        await self._bucket.take()
        deadline = loop.time() + self._budget
        failures = 0
        while True:
            try:
                async with self._transport.exchange(request, deadline) as response:
                    self._warnings.log(request.action, response.warnings)
                    return await response.read()
            except ApiError as error:
                failures += 1
                pause = self._backoff.delay(failures, error.retry_after)
                if not is_retried(error) or loop.time() + pause >= deadline:
                    raise
                logger.info("%s; retrying in %.1f s", error, pause)
                await asyncio.sleep(pause)
                await self._bucket.take()
                if loop.time() >= deadline:
                    raise


_CLIENTS: SharedPerLoop[str, Client] = SharedPerLoop(Client.aclose)


@asynccontextmanager
async def connect(source: ClusterSource) -> AsyncIterator[Client]:
    """The client for `source`. All users of one server and identity on this event loop share it.

    It stays open for a few seconds after its last user, and is closed with the loop. Raises `ConfigError`.
    """
    config = await load(source)
    async with _CLIENTS.use(config.identity, lambda: Client(config)) as client:
        yield client


async def aclose_all() -> None:
    """Close every shared client of the running loop now. `asyncio.run` does so at its end."""
    await _CLIENTS.aclose()


def object_path(resource: str, namespace: str, name: str = "") -> str:
    """The path of a resource ("pods"), an object, or a subresource ("pods/log") of it."""
    kind, _, subresource = resource.partition("/")
    parts = ["namespaces", namespace] if namespace and kind != "namespaces" else []
    parts += [kind, name, subresource]
    return "/".join([_GROUPS.get(kind, "/api/v1"), *(quote(part, safe="") for part in parts if part)])


def _query(**options: str | int | bool | None) -> dict[str, str]:
    """Query parameters without those that are unset; booleans as Kubernetes spells them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None and value is not False and value != ""
    }
