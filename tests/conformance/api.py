"""A minimal client on plain aiohttp: the conformance tests test a server, not the library's client."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from kpo_async.compat import timeout

Object = dict[str, Any]
MERGE = "application/merge-patch+json"
IMAGE = "busybox:1.36"


@dataclass(frozen=True)
class Access:
    """The address and credentials of a cluster."""

    url: str
    tls: ssl.SSLContext | None = None
    token: str = ""

    @classmethod
    def load(cls, kubeconfig: Path) -> Access:
        """Read the current context of a kubeconfig with a token or a client certificate."""
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config, "context", config["current-context"])
        cluster, user = _named(config, "cluster", context["cluster"]), _named(config, "user", context["user"])
        tls = None
        if cluster["server"].startswith("https"):
            tls = ssl.create_default_context(
                cafile=cluster.get("certificate-authority"), cadata=_data(cluster, "certificate-authority")
            )
            if "client-certificate-data" in user:
                with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                    file.write(f"{_data(user, 'client-certificate')}\n{_data(user, 'client-key')}")
                    file.flush()
                    tls.load_cert_chain(file.name)
            elif "client-certificate" in user:
                tls.load_cert_chain(user["client-certificate"], user["client-key"])
        return cls(cluster["server"], tls, user.get("token", ""))


def _named(config: Object, kind: str, name: str) -> Object:
    return next(entry[kind] for entry in config[f"{kind}s"] if entry["name"] == name)


def _data(entry: Object, key: str) -> str | None:
    encoded = entry.get(f"{key}-data")
    return base64.b64decode(encoded).decode() if encoded else None


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Object:
        parsed: Object = json.loads(self.raw)
        return parsed

    @property
    def message(self) -> str:
        return str(self.body["message"])


@dataclass
class Event:
    """One line of a watch."""

    type: str
    object: Object

    @property
    def version(self) -> str:
        return str(self.object["metadata"]["resourceVersion"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"].get("name", ""))


@dataclass
class Watch:
    """An open watch."""

    response: aiohttp.ClientResponse
    seen: list[Event] = field(default_factory=list)

    async def next(self, seconds: float = 30) -> Event | None:
        """Wait for the next event; None is the end of the watch."""
        async with timeout(seconds):
            line = await self.response.content.readline()
        if not line:
            return None
        parsed = json.loads(line)
        event = Event(parsed["type"], parsed["object"])
        self.seen.append(event)
        return event

    async def until(self, wanted: Callable[[Event], bool], seconds: float = 60) -> Event:
        """Wait for the first event that meets a condition; `seen` has all events before it."""
        async with timeout(seconds):
            while (event := await self.next(seconds)) is not None:
                if wanted(event):
                    return event
        raise AssertionError(f"the watch ended after {[(e.type, e.name) for e in self.seen]}")

    async def rest(self, seconds: float = 30) -> list[Event]:
        """Wait for the end of the watch, and return all its events."""
        async with timeout(seconds):
            while await self.next(seconds):
                pass
        return self.seen


@dataclass(frozen=True)
class Api:
    """A user's access to one namespace."""

    session: aiohttp.ClientSession
    access: Access
    namespace: str

    def path(self, resource: str, name: str = "", subresource: str = "") -> str:
        """Return the path of `pods` in this test's namespace; `/api/...` is returned unchanged."""
        if resource.startswith("/"):
            return resource
        group, _, plain = resource.rpartition("/")
        root = f"/apis/{group}" if group else "/api/v1"
        parts = [root, "namespaces", self.namespace, plain, name, subresource]
        return "/".join(part for part in parts if part)

    def as_user(self, token: str) -> Api:
        """Return the same access for another user; an empty token means no token."""
        return replace(self, access=replace(self.access, token=token))

    def kubeconfig(self, token: str, authority: str) -> Object:
        """Return a kubeconfig for another user; `authority` is a certificate in PEM."""
        cluster = {"server": self.access.url}
        if authority:
            cluster["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "context", "context": {"cluster": "cluster", "user": "user"}}],
            "current-context": "context",
        }

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access.token}"} if self.access.token else {}

    async def call(
        self,
        method: str,
        resource: str,
        name: str = "",
        subresource: str = "",
        *,
        body: Any = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {**self._headers, **({"Content-Type": content_type} if data is not None else {}), **(headers or {})}
        url = self.access.url + self.path(resource, name, subresource)
        ssl_context = self.access.tls or True
        async with self.session.request(
            method, url, params=query, data=data, headers=sent, ssl=ssl_context
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, resource: str, name: str = "", subresource: str = "", **query: str) -> Answer:
        return await self.call("GET", resource, name, subresource, **query)

    async def create(self, resource: str, body: Any, name: str = "", subresource: str = "", **query: str) -> Answer:
        return await self.call("POST", resource, name, subresource, body=body, **query)

    async def merge(self, resource: str, name: str, body: Any, subresource: str = "", **query: str) -> Answer:
        return await self.call("PATCH", resource, name, subresource, body=body, content_type=MERGE, **query)

    async def delete(self, resource: str, name: str = "", body: Any = None, **query: str) -> Answer:
        return await self.call("DELETE", resource, name, body=body, **query)

    @asynccontextmanager
    async def watch(self, resource: str = "pods", **query: str) -> AsyncIterator[Watch]:
        url = self.access.url + self.path(resource)
        query = {"watch": "true", "timeoutSeconds": "120", **query}
        async with self.session.get(url, params=query, headers=self._headers, ssl=self.access.tls or True) as response:
            assert response.status == 200, await response.text()
            yield Watch(response)

    @asynccontextmanager
    async def stream(self, resource: str, name: str, subresource: str, **query: str) -> AsyncIterator[Any]:
        """Open a stream: a log that is followed."""
        url = self.access.url + self.path(resource, name, subresource)
        async with self.session.get(url, params=query, headers=self._headers, ssl=self.access.tls or True) as response:
            yield response

    async def log(self, name: str, **query: str) -> str:
        answer = await self.get("pods", name, "log", **query)
        assert answer.status == 200, answer.raw
        return answer.raw.decode()

    async def run(self, pod: Object) -> Object:
        """Create a pod."""
        answer = await self.create("pods", pod)
        assert answer.status == 201, answer.raw
        return answer.body

    async def wait(self, name: str, wanted: Callable[[Object], bool], seconds: float = 60) -> Object:
        """Wait until a pod meets a condition, and return it."""
        async with self.watch(fieldSelector=f"metadata.name={name}") as watch:
            event = await watch.until(lambda event: wanted(event.object), seconds)
        return event.object

    async def finish(self, pod: Object) -> Object:
        """Create a pod, wait until it has ended, and return it."""
        created = await self.run(pod)
        return await self.wait(created["metadata"]["name"], has_ended)


def pod(name: str, *command: str, **spec: Any) -> Object:
    """Return a pod of one container that runs a shell line, or a `command` of several words."""
    line = list(command) if len(command) > 1 else ["sh", "-c", *(command or ("true",))]
    container = {"name": "base", "image": IMAGE, "command": line}
    defaults = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 2}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**defaults, **spec}}


def asleep(name: str, **metadata: Any) -> Object:
    """Return a pod that never starts, because no scheduler has its scheduler's name."""
    made = pod(name, schedulerName="nobody")
    made["metadata"] |= metadata
    return made


def has_ended(obj: Object) -> bool:
    return obj["status"].get("phase") in ("Succeeded", "Failed")


def is_running(obj: Object) -> bool:
    return all("running" in status["state"] for status in obj["status"].get("containerStatuses", [])) and bool(
        obj["status"].get("containerStatuses")
    )


def state(obj: Object, container: str = "base", kind: str = "containerStatuses") -> Object:
    """Return the state of one container."""
    found = next(status for status in obj["status"][kind] if status["name"] == container)
    current: Object = found["state"]
    return current
