"""What many users of one event loop share: made for the first, kept a moment after the last, closed with the loop.

The registry hangs on the loop by an async generator: `loop.shutdown_asyncgens`, which `asyncio.run` calls, runs its
`finally` and so closes what is still open. No task lives here while nothing is being closed.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

LINGER = 5.0
"""Seconds a value outlives its last user: tasks come in waves, and opening anew costs a TLS handshake."""


@dataclass
class _Entry(Generic[Value]):
    value: Value
    users: int = 0
    expiry: asyncio.TimerHandle | None = None


@dataclass
class _Registry(Generic[Key, Value]):
    """What one event loop shares."""

    keeper: AsyncGenerator[None, None]
    entries: dict[Key, _Entry[Value]] = field(default_factory=dict)
    closing: set[asyncio.Task[None]] = field(default_factory=set)


class Shared(Generic[Key, Value]):
    """One value per key and running event loop, for any number of users. `close` must not fail."""

    def __init__(self, close: Callable[[Value], Awaitable[None]], linger: float = LINGER) -> None:
        self._close = close
        self._linger = linger
        self._registries: dict[asyncio.AbstractEventLoop, _Registry[Key, Value]] = {}

    @asynccontextmanager
    async def use(self, key: Key, make: Callable[[], Value]) -> AsyncIterator[Value]:
        """The value of `key`, made by `make` if there is none."""
        registry = await self._registry()
        entry = registry.entries.get(key)
        if entry is None:
            entry = registry.entries[key] = _Entry(make())
        if entry.expiry is not None:
            entry.expiry.cancel()
            entry.expiry = None
        entry.users += 1
        try:
            yield entry.value
        finally:
            entry.users -= 1
            if not entry.users and registry.entries.get(key) is entry:
                loop = asyncio.get_running_loop()
                # An empty context: the timer must not keep the last user's variables alive, nor log in its name.
                entry.expiry = loop.call_later(self._linger, self._expire, registry, key, context=contextvars.Context())

    async def aclose(self) -> None:
        """Close everything of the running loop, in use or not."""
        registry = self._registries.get(asyncio.get_running_loop())
        if registry is not None:
            await registry.keeper.aclose()

    def __len__(self) -> int:
        """How many values are open, in all loops."""
        return sum(len(registry.entries) for registry in self._registries.values())

    async def _registry(self) -> _Registry[Key, Value]:
        loop = asyncio.get_running_loop()
        if loop not in self._registries:
            for dead in [other for other in self._registries if other.is_closed()]:
                del self._registries[
                    dead
                ]  # It was closed without `shutdown_asyncgens`: nobody can await there any more.
            keeper = self._keep(loop)
            self._registries[loop] = _Registry(keeper)
            await keeper.__anext__()
        return self._registries[loop]

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            registry = self._registries.pop(loop)
            for entry in registry.entries.values():
                if entry.expiry is not None:
                    entry.expiry.cancel()
                await self._close(entry.value)
            registry.entries.clear()
            if registry.closing:
                await asyncio.wait(registry.closing)

    def _expire(self, registry: _Registry[Key, Value], key: Key) -> None:
        entry = registry.entries.pop(key)
        task = asyncio.ensure_future(self._close(entry.value))
        registry.closing.add(task)
        task.add_done_callback(registry.closing.discard)
