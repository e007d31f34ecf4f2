"""What a request proves its identity with, and how that is kept fresh.

A `CredentialSource` is a frozen value out of a kubeconfig: it can be compared, hashed and shared between event loops.
The `GrantCache` of a client fetches grants from it: files are read again, exec plugins run again, and any number of
requests that wait cause one renewal. Secrets never appear in a repr or an error.
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


class Authenticator(Protocol):
    """Fetches grants for one client. May keep state between fetches, such as a rotated refresh token."""

    async def fetch(self) -> Grant:
        """Return a fresh grant. Raises `CredentialError`."""


class CredentialSource(Protocol):
    """Where credentials come from: a frozen, hashable value. All its fields together are the identity."""

    def open(self) -> Authenticator:
        """Return the authenticator of one client, for use on the running event loop."""


@dataclass(frozen=True)
class StaticCredentials:
    """Credentials written in the kubeconfig itself. Without any, requests are anonymous."""

    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None

    def open(self) -> Authenticator:
        return self

    async def fetch(self) -> Grant:
        return Grant(self.authorization, self.certificate)


@dataclass(frozen=True)
class FileCredentials:
    """Credentials in files that another program renews, such as the token of a mounted service account."""

    token_file: str | None = None
    authorization: str | None = field(default=None, repr=False)
    """Used where there is no `token_file`."""
    certificate: ClientCertificate | None = None
    """Used where there is no `certificate_file`."""
    certificate_file: str | None = None
    key_file: str | None = None

    def open(self) -> Authenticator:
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


class GrantCache:
    """The current grant of one client. Renewed when due or rejected, once for all requests that wait. Close it."""

    def __init__(self, source: CredentialSource) -> None:
        self._authenticator = source.open()
        self._grant: Grant | None = None
        self._due: float | None = None
        self._renewals: SingleFlight[str, Grant] = SingleFlight("credentials")

    async def grant(self) -> Grant:
        """Return the grant to use now. Raises `CredentialError`."""
        if self._grant is None:
            return await self._renew()
        if self._due is None or asyncio.get_running_loop().time() < self._due:
            return self._grant
        try:
            return await self._renew()
        except CredentialError:
            # Renewal comes early: the old grant is good until the server rejects it.
            return self._grant

    async def replace(self, rejected: Grant) -> Grant:
        """Return a grant to use instead of one that the server answered with 401. Raises `CredentialError`."""
        if self._grant is not None and self._grant is not rejected:
            return self._grant
        return await self._renew()

    async def close(self) -> None:
        """Stop a renewal that is under way."""
        await self._renewals.aclose()

    async def _renew(self) -> Grant:
        return await self._renewals.run("grant", self._fetch)

    async def _fetch(self) -> Grant:
        grant = await self._authenticator.fetch()
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
