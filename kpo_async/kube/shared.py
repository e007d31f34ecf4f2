"""What the tasks of one event loop share: values, calls under way, and resources that must be closed.

    PerLoop        one value per event loop
    SingleFlight   one call for all tasks that ask for the same thing at the same time
    SharedPerLoop  one resource per key: opened for its first user, kept a moment after its last, closed with the loop

asyncio's objects belong to the loop they were made on, and a process may have several loops, at once or in turn.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

LINGER = 5.0
"""Seconds a resource outlives its last user: tasks come in waves, and opening it again costs a TLS handshake."""


class PerLoop(Generic[Value]):
    """One value per event loop, made on first use and forgotten after its loop was closed."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, Value] = {}

    def get(self) -> Value:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._values:
            for closed in [other for other in list(self._values) if other.is_closed()]:
                self._values.pop(closed, None)
            self._values[loop] = self._make()
        return self._values[loop]

    def pop(self) -> Value | None:
        """Remove the value of the running loop and return it, if there is one."""
        return self._values.pop(asyncio.get_running_loop(), None)

    def __iter__(self) -> Iterator[Value]:
        """The values of all loops."""
        return iter(list(self._values.values()))


@dataclass
class _Flight(Generic[Value]):
    result: asyncio.Future[Value]
    fresh_until: float = math.inf


class SingleFlight(Generic[Key, Value]):
    """One call per key and event loop at a time, like Go's `singleflight`: tasks that ask meanwhile get its result.

    The call runs in a task of its own, so that a cancelled caller does not take it from the others, and in an empty
    context, so that its log lines do not land in the log of the caller that came first.
    """

    def __init__(self, name: str, *, fresh_for: float = 0.0) -> None:
        """`name`: of its tasks. `fresh_for`: seconds for which a result is reused. A failure never is."""
        self._name = name
        self._fresh_for = fresh_for
        self._flights: PerLoop[dict[Key, _Flight[Value]]] = PerLoop(dict)

    async def run(self, key: Key, call: Callable[[], Awaitable[Value]]) -> Value:
        """The result of `call()`, or of a call for `key` that is under way or fresh. Raises what the call raised."""
        return await asyncio.shield(self.start(key, call))

    def start(self, key: Key, call: Callable[[], Awaitable[Value]]) -> asyncio.Future[Value]:
        """The future result of `run`, which must not be cancelled, and need not be awaited."""
        flights = self._flights.get()
        flight = flights.get(key)
        if flight is None or flight.fresh_until <= asyncio.get_running_loop().time():
            result = contextvars.Context().run(asyncio.ensure_future, call())
            if isinstance(result, asyncio.Task):
                result.set_name(f"kpo-async {self._name}")
            flight = flights[key] = _Flight(result)
            result.add_done_callback(lambda _: self._landed(flights, key))
        return flight.result

    async def aclose(self) -> None:
        """Cancel the calls that are under way on the running loop."""
        under_way = [flight.result for flight in (self._flights.pop() or {}).values() if not flight.result.done()]
        for result in under_way:
            result.cancel()
        if under_way:
            await asyncio.wait(under_way)

    def _landed(self, flights: dict[Key, _Flight[Value]], key: Key) -> None:
        flight = flights[key]
        # Reading the exception marks it as seen: all callers may have been cancelled.
        if flight.result.cancelled() or flight.result.exception() is not None or not self._fresh_for:
            del flights[key]
            return
        loop = asyncio.get_running_loop()
        flight.fresh_until = loop.time() + self._fresh_for
        if self._fresh_for < math.inf:
            # In an empty context: the timer must not keep the caller's variables alive.
            loop.call_later(self._fresh_for, self._forget, flights, key, flight, context=contextvars.Context())

    @staticmethod
    def _forget(flights: dict[Key, _Flight[Value]], key: Key, flight: _Flight[Value]) -> None:
        if flights.get(key) is flight:
            del flights[key]


@dataclass
class _Entry(Generic[Value]):
    value: Value
    users: int = 0
    expiry: asyncio.TimerHandle | None = None


@dataclass
class _Registry(Generic[Key, Value]):
    """The resources of one event loop."""

    keeper: AsyncGenerator[None, None] | None = None
    entries: dict[Key, _Entry[Value]] = field(default_factory=dict)
    closing: set[asyncio.Task[None]] = field(default_factory=set)


class SharedPerLoop(Generic[Key, Value]):
    """One resource per key and event loop, for any number of users. `close` must not fail.

    The resources hang on their loop by an async generator: `loop.shutdown_asyncgens`, which `asyncio.run` calls, runs
    its `finally` and so closes what is still open. There is no task here except while something is being closed.
    """

    def __init__(self, close: Callable[[Value], Awaitable[None]], linger: float = LINGER) -> None:
        self._close = close
        self._linger = linger
        self._registries: PerLoop[_Registry[Key, Value]] = PerLoop(_Registry)

    @asynccontextmanager
    async def use(self, key: Key, make: Callable[[], Value]) -> AsyncIterator[Value]:
        """The resource of `key`, made by `make` if there is none."""
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
        registry = self._registries.pop()
        if registry is not None and registry.keeper is not None:
            await registry.keeper.aclose()

    def __len__(self) -> int:
        """How many resources are open, in all loops."""
        return sum(len(registry.entries) for registry in self._registries)

    async def _registry(self) -> _Registry[Key, Value]:
        registry = self._registries.get()
        if registry.keeper is None:
            registry.keeper = self._keep(registry)
            await registry.keeper.__anext__()
        return registry

    async def _keep(self, registry: _Registry[Key, Value]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._registries.pop()
            # Who leaves from now on starts no timer.
            entries, registry.entries = list(registry.entries.values()), {}
            for entry in entries:
                if entry.expiry is not None:
                    entry.expiry.cancel()
                await self._close(entry.value)
            if registry.closing:
                await asyncio.wait(registry.closing)

    def _expire(self, registry: _Registry[Key, Value], key: Key) -> None:
        entry = registry.entries.pop(key)
        task = asyncio.ensure_future(self._close(entry.value))
        registry.closing.add(task)
        task.add_done_callback(registry.closing.discard)
