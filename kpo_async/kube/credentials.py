"""What a request proves its identity with, and how that is kept fresh.

A `User` is a frozen value out of a kubeconfig: it can be compared, hashed and shared between event loops. `open_credential`
makes the living thing of one client from it: it reads token files again, runs exec plugins, and refreshes once for any
number of waiters. Secrets never appear in a repr.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate and its key, both PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Grant:
    """What one request carries: an Authorization header, a client certificate, both or nothing."""

    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None


@dataclass(frozen=True)
class StaticUser:
    """Credentials that stand in the kubeconfig themselves."""

    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    certificate: ClientCertificate | None = None

    def grant(self) -> Grant:
        if self.token:
            return Grant(f"Bearer {self.token}", self.certificate)
        if self.username:
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            return Grant(f"Basic {pair}", self.certificate)
        return Grant(None, self.certificate)


@dataclass(frozen=True)
class TokenFileUser:
    """A token that somebody else renews in a file, such as a mounted service account."""

    path: str
    certificate: ClientCertificate | None = None

    def read(self) -> Grant:
        return Grant(f"Bearer {Path(self.path).read_text().strip()}", self.certificate)


User = StaticUser | TokenFileUser


class Credential:
    """The current grant of one client, renewed when it is due or was rejected."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[Grant, float | None]]]) -> None:
        self._fetch = fetch
        self._grant: Grant | None = None
        self._due: float | None = None
        self._lock = asyncio.Lock()

    async def grant(self) -> Grant:
        """The grant to use now."""
        if self._grant is not None and not self._is_due():
            return self._grant
        async with self._lock:
            if self._grant is None or self._is_due():
                await self._renew()
            assert self._grant is not None
            return self._grant

    async def replace(self, rejected: Grant) -> Grant:
        """A grant to use instead of one the server answered with 401."""
        async with self._lock:
            if self._grant is None or self._grant is rejected:
                await self._renew()
            assert self._grant is not None
            return self._grant

    def _is_due(self) -> bool:
        return self._due is not None and asyncio.get_running_loop().time() >= self._due

    async def _renew(self) -> None:
        self._grant, lifetime = await self._fetch()
        self._due = None if lifetime is None else asyncio.get_running_loop().time() + lifetime


def open_credential(user: User) -> Credential:
    """The living credential of `user` for a client of the running loop."""
    if isinstance(user, StaticUser):

        async def fetch() -> tuple[Grant, float | None]:
            return user.grant(), None
    else:

        async def fetch() -> tuple[Grant, float | None]:
            return await asyncio.to_thread(user.read), 60.0

    return Credential(fetch)
