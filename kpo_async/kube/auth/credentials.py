"""What requests prove their identity with, and how that is kept fresh.

A `User` is a frozen value out of a kubeconfig: it can be compared, hashed and shared between event loops.
A `Credential` is the living thing one client makes of it: it reads files again, runs exec plugins, and renews once for
any number of waiters. Secrets never appear in a repr or an error.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kpo_async.kube.shared import SingleFlight

FILE_LIFETIME = 60.0
"""Seconds until a token or certificate file is read again; the kubelet renews service account tokens long before."""


class CredentialError(Exception):
    """The credentials cannot be obtained. Internal to `kube`: callers see `UnauthorizedError`."""


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate chain and its key, both PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Grant:
    """What one request carries: an Authorization header, a client certificate, both or nothing."""

    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None
    lifetime: float | None = None
    """Seconds from now until it should be renewed; `None` for never."""


class Source(Protocol):
    """Something that yields grants, one each time it is asked."""

    async def fetch(self) -> Grant:
        """A fresh grant. Raises `CredentialError`."""


class User(Protocol):
    """How to become somebody: a frozen, hashable value. All fields together are the identity."""

    def open(self) -> Source:
        """What a client of the running loop fetches its grants from."""


@dataclass(frozen=True)
class StaticUser:
    """Credentials that stand in the kubeconfig themselves; without any, nobody in particular."""

    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None

    def open(self) -> Source:
        return self

    async def fetch(self) -> Grant:
        return Grant(self.authorization, self.certificate)


@dataclass(frozen=True)
class FileUser:
    """Credentials in files that somebody else renews, such as the token of a mounted service account."""

    token_file: str | None = None
    authorization: str | None = field(default=None, repr=False)
    """Used where there is no `token_file`."""
    certificate: ClientCertificate | None = None
    """Used where there is no `certificate_file`."""
    certificate_file: str | None = None
    key_file: str | None = None

    def open(self) -> Source:
        return self

    async def fetch(self) -> Grant:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Grant:
        authorization, certificate = self.authorization, self.certificate
        if self.token_file:
            authorization = bearer(_read(self.token_file).decode("ascii", "replace").strip())
        if self.certificate_file and self.key_file:
            certificate = ClientCertificate(_read(self.certificate_file), _read(self.key_file))
        return Grant(authorization, certificate, FILE_LIFETIME)


class Credential:
    """The current grant of one client. Renewed when due or rejected, once for everybody who waits. Close it."""

    def __init__(self, user: User) -> None:
        self._source = user.open()
        self._grant: Grant | None = None
        self._due: float | None = None
        self._renewals: SingleFlight[str, Grant] = SingleFlight("credentials")

    async def grant(self) -> Grant:
        """The grant to use now. Raises `CredentialError`."""
        if self._grant is None:
            return await self._renew()
        if self._due is None or asyncio.get_running_loop().time() < self._due:
            return self._grant
        try:
            return await self._renew()
        except CredentialError:
            # Renewal comes early; the server will say when the old grant has really expired.
            return self._grant

    async def replace(self, rejected: Grant) -> Grant:
        """A grant to use instead of one the server answered with 401. Raises `CredentialError`."""
        if self._grant is not None and self._grant is not rejected:
            return self._grant
        return await self._renew()

    async def close(self) -> None:
        """Stop a renewal that is under way."""
        await self._renewals.aclose()

    async def _renew(self) -> Grant:
        return await self._renewals.run("grant", self._fetch)

    async def _fetch(self) -> Grant:
        grant = await self._source.fetch()
        now = asyncio.get_running_loop().time()
        self._grant, self._due = grant, None if grant.lifetime is None else now + grant.lifetime
        return grant


def bearer(token: str) -> str:
    """The Authorization header for a token."""
    return f"Bearer {token}"


def basic(username: str, password: str) -> str:
    """The Authorization header for a user name and password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialError(f'{path} cannot be read on host "{socket.gethostname()}": {error.strerror}') from error
