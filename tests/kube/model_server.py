"""A small model of an API server's pods, without sockets: versions, history, selections, watches and faults.

It sends the bytes of the protocol through the three methods of `Client` that the watcher and the informer call, so that
thousands of random histories run in seconds. `tests/conformance` checks its claims about real servers.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.errors import Action, from_response, from_transport

Json = dict[str, Any]
BOOKMARKS = 60.0
"""Seconds between bookmarks."""


@dataclass
class Change:
    """One write: the object before and after it, both under the version it got."""

    version: int
    before: Json | None
    after: Json | None


@dataclass(eq=False)
class Stream:
    """One open watch, and what is on its way to the client."""

    chosen: Callable[[Json], bool]
    chunks: asyncio.Queue[bytes | Exception | None] = field(default_factory=asyncio.Queue)
    frozen: bool = False

    def put(self, chunk: bytes | Exception | None) -> None:
        if not self.frozen:
            self.chunks.put_nowait(chunk)


@dataclass
class Faults:
    """The faults of the server at the moment."""

    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Verb -> the HTTP status and reason of the response; 0: connection refused."""
    lag: int = 0
    """How many writes the cache behind `resourceVersion=0` is late."""
    initial_events: bool = True
    """Whether `sendInitialEvents` is supported."""
    shred: bool = False
    """Whether chunks are split at random places."""
    repeat: bool = False
    """Whether a watch begins with events that its client has received already."""


class ModelServer:
    """The pods, their history, and the open watches."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.version = 100
        self.pods: dict[str, Json] = {}
        self.history: list[Change] = []
        self.snapshots: list[tuple[int, dict[str, Json]]] = [(self.version, {})]
        self.horizon = 0
        """The newest version that has been compacted away."""
        self.streams: list[Stream] = []
        self.faults = Faults()
        self.requests: list[str] = []

    def write(self, name: str, after: Json | None) -> Json | None:
        """Store `after` as the pod `name`, or delete it. Returns the object with its new version."""
        before = self.pods.get(name)
        self.version += 1
        if after is not None:
            after = copy.deepcopy(after)
            after["metadata"]["resourceVersion"] = str(self.version)
            self.pods[name] = after
        else:
            self.pods.pop(name)
        change = Change(self.version, _under(before, self.version), after)
        self.history.append(change)
        self.snapshots.append((self.version, dict(self.pods)))
        for stream in self.streams:
            self._send(stream, change)
        return after if after is not None else change.before

    def compact(self) -> None:
        """Forget the history, as a real server does after minutes."""
        self.horizon = self.version
        self.history.clear()

    def end_streams(self, end: bytes | Exception | None, *, cut: bytes = b"") -> None:
        """End all open watches: cleanly (None) or with an error, perhaps after half a line."""
        for stream in self.streams:
            if cut:
                stream.put(cut)
            stream.put(end)

    def freeze_streams(self) -> None:
        """Make all open watches silent, without an end."""
        for stream in self.streams:
            stream.frozen = True

    def allow(self, verb: str, name: str = "") -> Action:
        """Count a request. Raises the error of the current faults."""
        self.requests.append(verb)
        action = Action(verb, "pods", name, "ns", "model")
        if verb in self.faults.refusals:
            code, reason = self.faults.refusals[verb]
            if not code:
                raise from_transport(action, ConnectionRefusedError("model"))
            raise from_response(action, code, _status(code, reason))
        return action

    def listed(self, chosen: Callable[[Json], bool], lag: int) -> tuple[int, list[Json]]:
        """The selection as it was `lag` writes ago, and its version."""
        version, pods = self.snapshots[max(0, len(self.snapshots) - 1 - lag)]
        return version, [pod for pod in pods.values() if chosen(pod)]

    def open(self, chosen: Callable[[Json], bool], version: int | None, initial: bool) -> Stream:
        """A watch from `version` on, or (None) of the present and what follows."""
        stream = Stream(chosen)
        if version is None:
            for pod in self.pods.values():
                if chosen(pod):
                    stream.put(_line("ADDED", pod))
            stream.put(self.bookmark(initial=initial))
        elif version < self.horizon:
            stream.put(b'{"type":"ERROR","object":' + _status(410, "Expired") + b"}\n")
            stream.put(None)
        else:
            missed = [change for change in self.history if change.version > version]
            if self.faults.repeat:
                missed = self.history[max(0, len(self.history) - len(missed) - 2) :]
            for change in missed:
                self._send(stream, change)
        self.streams.append(stream)
        return stream

    def bookmark(self, *, initial: bool = False) -> bytes:
        metadata: Json = {"resourceVersion": str(self.version)}
        if initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        return _line("BOOKMARK", {"metadata": metadata, "spec": {"containers": None}, "status": {}})

    def _send(self, stream: Stream, change: Change) -> None:
        was = change.before is not None and stream.chosen(change.before)
        if change.after is not None and stream.chosen(change.after):
            stream.put(_line("MODIFIED" if was else "ADDED", change.after))
        elif was and change.before is not None:
            stream.put(_line("DELETED", change.before))


class ModelClient:
    """Takes the place of a `Client`."""

    def __init__(self, server: ModelServer) -> None:
        self.config = ClusterConfig(server="https://model", identity="model")
        self._server = server
        self._closers: list[Callable[[], Any]] = []

    def on_close(self, close: Callable[[], Any]) -> Callable[[], None]:
        self._closers.append(close)
        return lambda: self._closers.remove(close)

    async def aclose(self) -> None:
        for close in list(self._closers):
            await close()

    async def get(self, resource: str, name: str, namespace: str = "") -> Json:
        action = self._server.allow("get", name)
        await asyncio.sleep(0.001)
        if name not in self._server.pods:
            raise from_response(action, 404, _status(404, "NotFound"))
        return copy.deepcopy(self._server.pods[name])

    @asynccontextmanager
    async def list_stream(
        self, resource: str, namespace: str, *, label_selector: str, field_selector: str,
        resource_version: str | None, limit: int | None, continue_token: str,
    ) -> AsyncIterator[AsyncIterator[bytes]]:  # fmt: skip
        action = self._server.allow("list")
        await asyncio.sleep(0.001)
        if resource_version not in (None, "0") and int(resource_version) > self._server.version:
            raise from_response(action, 504, _status(504, "Timeout"))
        lag = self._server.faults.lag if resource_version == "0" else 0
        version, pods = self._server.listed(_chooser(label_selector, field_selector), lag)
        start = int(continue_token or 0)
        end = len(pods) if limit is None else start + max(1, limit // 200)
        metadata: Json = {"resourceVersion": str(version)}
        if end < len(pods):
            metadata["continue"] = str(end)
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods[start:end]}

        async def chunks() -> AsyncGenerator[bytes, None]:
            for chunk in self._shred(json.dumps(body, separators=(",", ":")).encode()):
                yield chunk

        yield chunks()

    @asynccontextmanager
    async def watch(
        self, resource: str, namespace: str, *, label_selector: str, field_selector: str,
        resource_version: str | None, send_initial_events: bool, timeout_seconds: int,
    ) -> AsyncIterator[AsyncIterator[bytes]]:  # fmt: skip
        action = self._server.allow("watch")
        await asyncio.sleep(0.001)
        if send_initial_events and not self._server.faults.initial_events:
            raise from_response(action, 422, _status(422, "Invalid"))
        version = None if resource_version is None else int(resource_version)
        stream = self._server.open(_chooser(label_selector, field_selector), version, send_initial_events)
        try:
            yield self._chunks(stream, action, timeout_seconds)
        finally:
            self._server.streams.remove(stream)

    async def _chunks(self, stream: Stream, action: Action, seconds: float) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            try:
                chunk = await asyncio.wait_for(stream.chunks.get(), BOOKMARKS)
            except asyncio.TimeoutError:
                if stream.frozen:
                    await asyncio.Event().wait()
                chunk = self._server.bookmark()
            if isinstance(chunk, Exception):
                raise from_transport(action, chunk)
            if chunk is None:
                return
            for piece in self._shred(chunk):
                yield piece

    def _shred(self, data: bytes) -> list[bytes]:
        if not self._server.faults.shred:
            return [data]
        place = self._server.random.randrange(len(data))
        return [piece for piece in (data[:place], data[place:]) if piece]


def _chooser(labels: str, fields: str) -> Callable[[Json], bool]:
    if fields:
        _, _, name = fields.partition("metadata.name=")
        return lambda pod: bool(pod["metadata"]["name"] == name)
    key, _, value = labels.partition("=")
    return lambda pod: bool(pod["metadata"].get("labels", {}).get(key) == value)


def _under(pod: Json | None, version: int) -> Json | None:
    return pod and {**pod, "metadata": {**pod["metadata"], "resourceVersion": str(version)}}


def _line(kind: str, thing: Json) -> bytes:
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"


def _status(code: int, reason: str) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": reason, "message": f"model: {reason}"}).encode()
