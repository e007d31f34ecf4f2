"""The calls this library makes: get, list, create, patch, delete, logs, watches, exec.

One retry policy, in `_call`. Deadlines belong to the caller: cancel any of these at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from kpo_async.compat import Self
from kpo_async.exceptions import ApiError
from kpo_async.kube.config import ClusterConfig, ClusterSource, load
from kpo_async.kube.errors import TRANSPORT_ERRORS, Action, from_transport
from kpo_async.kube.retry import RETRIED_STATUSES, Backoff, RateLimit
from kpo_async.kube.transport import Pool, Transport

Json = dict[str, Any]

_GROUPS = {"selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1"}
_CONTENT_TYPES = {"POST": "application/json", "DELETE": "application/json", "PATCH": "application/merge-patch+json"}
HEADER_TIMEOUT = 30.0
"""Seconds until a stream must have answered with headers; a quiet watch does so within milliseconds."""


class Client:
    """Calls to one API server under one identity, from one event loop. An async context manager."""

    def __init__(
        self, config: ClusterConfig, *, retry_budget: float = 25.0, rate: float = 50.0, burst: int = 100
    ) -> None:
        """`retry_budget`: seconds a unary call may take with all its retries; `rate`, `burst`: unary calls a second."""
        self.config = config
        self._transport = Transport(config)
        self._budget = retry_budget
        self._backoff = Backoff()
        self._limit = RateLimit(rate, burst)
        self._closers: list[Callable[[], Awaitable[None]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for close in reversed(self._closers):
            await close()
        await self._transport.close()

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` awaited before the connections are closed: for whoever works with this client in the background."""
        self._closers.append(close)

    async def get(self, resource: str, name: str, namespace: str = "") -> Json:
        """One object. Raises `NotFoundError` and the rest of the `ApiError` tree, as all methods here do."""
        return _object(await self._call("get", "GET", resource, namespace, name))

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
        """One list as the server answers it; `metadata.continue` says whether there is more."""
        return _object(
            await self.list_bytes(
                resource,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                limit=limit,
                continue_token=continue_token,
                resource_version=resource_version,
                resource_version_match=resource_version_match,
            )
        )

    async def list_bytes(
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
    ) -> bytes:
        """The same list, not decoded: for a caller that decodes only what it reads."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit,
            resourceVersion=resource_version,
            resourceVersionMatch=resource_version_match,
            **{"continue": continue_token},
        )
        return await self._call("list", "GET", resource, namespace, query=query)

    @asynccontextmanager
    async def list_stream(
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
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A raw list, in chunks as they come. For `watch.py`, which has a backoff of its own: never retried here."""
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit,
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        action = Action("list", resource, namespace=namespace)
        async with self._stream(action, _path(resource, namespace), Pool.WATCH, query, idle_timeout) as chunks:
            yield chunks

    async def create(self, resource: str, body: Json, namespace: str = "", *, dry_run: bool = False) -> Json:
        """Create an object. Retried like all calls: after an unclear failure a 409 may be about our own object."""
        name = body.get("metadata", {}).get("name", "")
        query = _query(dryRun="All" if dry_run else None)
        return _object(await self._call("create", "POST", resource, namespace, name, body=body, query=query))

    async def patch(self, resource: str, name: str, body: Json, namespace: str = "") -> Json:
        """Apply a JSON merge patch (RFC 7386)."""
        return _object(await self._call("patch", "PATCH", resource, namespace, name, body=body))

    async def delete(
        self,
        resource: str,
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> Json:
        """Delete the object, and only the one with `uid` if given (else `ConflictError`)."""
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_period_seconds is not None:
            body["gracePeriodSeconds"] = grace_period_seconds
        return _object(await self._call("delete", "DELETE", resource, namespace, name, body=body))

    async def review_access(self, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether we may `verb` `resource` ("pods", "pods/log") in `namespace`, as the server judges it."""
        kind, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "resource": kind, "subresource": subresource, "namespace": namespace}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self.create("selfsubjectaccessreviews", body)
        return bool(answer["status"].get("allowed"))

    @asynccontextmanager
    async def log(
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
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A container's log, in chunks as they come (not lines). `since_time` is RFC 3339, nanoseconds and all."""
        query = _query(
            container=container,
            follow=follow,
            timestamps=timestamps,
            sinceTime=since_time,
            tailLines=tail_lines,
            limitBytes=limit_bytes,
            previous=previous,
        )
        action = Action("get", "pods/log", name, namespace)
        path = _path("pods", namespace, name) + "/log"
        async with self._stream(action, path, Pool.LOGS, query, idle_timeout) as chunks:
            yield chunks

    @asynccontextmanager
    async def watch(
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
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A raw watch, in chunks as they come. For `watch.py`, which knows what the bytes mean.

        `idle_timeout`: seconds without a byte until `UnreachableError`. Never retried here.
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
        action = Action("watch", resource, namespace=namespace)
        async with self._stream(action, _path(resource, namespace), Pool.WATCH, query, idle_timeout) as chunks:
            yield chunks

    @asynccontextmanager
    async def _stream(
        self, action: Action, path: str, pool: Pool, query: Mapping[str, str], idle_timeout: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        deadline = asyncio.get_running_loop().time() + HEADER_TIMEOUT
        async with self._transport.exchange(
            action, "GET", path, pool=pool, deadline=deadline, query=query, idle_timeout=idle_timeout
        ) as response:

            async def chunks() -> AsyncIterator[bytes]:
                try:
                    async for chunk in response.content.iter_any():
                        yield chunk
                except TRANSPORT_ERRORS as error:
                    raise from_transport(action, self.config.server, error) from error

            yield chunks()

    async def _call(
        self,
        verb: str,
        method: str,
        resource: str,
        namespace: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
    ) -> bytes:
        """One unary call under the retry policy."""
        loop = asyncio.get_running_loop()
        action = Action(verb, resource, name, namespace)
        path = _path(resource, namespace, "" if method == "POST" else name)
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": _CONTENT_TYPES[method]} if body is not None else None
        deadline = loop.time() + self._budget
        failures = 0
        while True:
            await self._limit.take()
            try:
                async with self._transport.exchange(
                    action,
                    method,
                    path,
                    pool=Pool.CALLS,
                    deadline=deadline,
                    query=query,
                    body=data,
                    headers=headers,
                    idle_timeout=self._budget,
                ) as response:
                    return await response.read()
            except ApiError as error:
                if error.code and error.code not in RETRIED_STATUSES:
                    raise
                failures += 1
                pause = self._backoff.delay(failures, error.retry_after)
                if loop.time() + pause >= deadline:
                    raise
            await asyncio.sleep(pause)


@asynccontextmanager
async def connect(source: ClusterSource) -> AsyncIterator[Client]:
    """The client for `source`."""
    async with Client(await load(source)) as client:
        yield client


def _object(data: bytes) -> Json:
    decoded: Json = msgspec.json.decode(data)
    return decoded


def _path(resource: str, namespace: str, name: str = "") -> str:
    kind, _, subresource = resource.partition("/")
    parts = [_GROUPS.get(kind, "/api/v1")]
    if namespace and kind != "namespaces":
        parts += ["namespaces", namespace]
    parts += [part for part in (kind, name, subresource) if part]
    return "/".join(parts)


def _query(**options: str | int | bool | None) -> dict[str, str]:
    """Query parameters without those that are unset; booleans as Kubernetes spells them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if value is not None and value is not False and value != ""
    }


async def aclose_all() -> None:
    """Close every shared client of the running loop."""
