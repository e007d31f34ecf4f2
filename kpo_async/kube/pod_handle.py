"""One pod on one API server, and the calls that concern this pod alone.

A later pod of the same name is another pod: `get` does not return it, `patch` and `delete` do not touch it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any

from kpo_async.compat import Self
from kpo_async.exceptions import ConflictError, InvalidError, NotFoundError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.remote_command import ExecResult
from kpo_async.kube.watch import Subscription, follow


@dataclass(frozen=True)
class PodHandle:
    """The pod `uid`, called `name` in `namespace` on the server of `client`. All methods raise `ApiError`."""

    client: Client
    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, client: Client, pod: Mapping[str, Any]) -> Self:
        """Return the handle of a pod as the API server answered it."""
        metadata = pod["metadata"]
        return cls(client, metadata["namespace"], metadata["name"], metadata["uid"])

    def __str__(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    async def get(self) -> Json | None:
        """Return the pod, or None when it is gone."""
        try:
            found = await self.client.get("pods", self.name, self.namespace)
        except NotFoundError:
            return None
        return found if found["metadata"]["uid"] == self.uid else None

    async def patch(self, body: Json) -> Json:
        """Apply a merge patch and return the pod.

        Raises `NotFoundError` when the pod is gone, and `ConflictError` when it has another resourceVersion than the
        one in `body`, if any.
        """
        metadata = {**body.get("metadata", {}), "uid": self.uid}
        try:
            return await self.client.patch("pods", self.name, {**body, "metadata": metadata}, self.namespace)
        except InvalidError as error:
            # The answer for another pod's uid, too: the field is immutable.
            if await self.get() is not None:
                raise
            raise NotFoundError(
                f"patch pod {self}: it is gone",
                verb="patch",
                resource="pods",
                name=self.name,
                namespace=self.namespace,
                code=404,
                reason="NotFound",
            ) from error

    async def delete(self, *, grace_period: int | None = None) -> None:
        """Delete the pod; do nothing when it is gone. `grace_period` in seconds; None leaves it to the pod."""
        with suppress(NotFoundError, ConflictError):
            await self.client.delete("pods", self.name, self.namespace, uid=self.uid, grace_period_seconds=grace_period)

    def subscribe(self, *, selector: str, poll_interval: float = 2.0) -> AbstractAsyncContextManager[Subscription]:
        """Follow the pod through the watch that all subscribers with this label `selector` share. See `follow`."""
        return follow(self.client, self.namespace, self.name, self.uid, selector=selector, poll_interval=poll_interval)

    def log(
        self, container: str, *, timestamps: bool = True, idle_timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read the log that a container has written so far. See `Client.log`."""
        return self.client.log(
            self.name, self.namespace, container=container, timestamps=timestamps, idle_timeout=idle_timeout
        )

    async def exec(self, container: str, command: Sequence[str]) -> ExecResult:
        """Run a command in a running container and wait for its end. See `Client.exec`."""
        return await self.client.exec(self.name, self.namespace, container=container, command=command)
