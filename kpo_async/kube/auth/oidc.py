"""Credentials from `auth-provider: oidc`: an id-token, exchanged for a new one by its refresh-token.

The new tokens stay in memory: a kubeconfig is read by many processes and written by none of them. TLS to the issuer is
always verified, for its client secret and refresh token go there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import msgspec

from kpo_async.kube.auth.credentials import CredentialError, Grant, Source, basic, bearer
from kpo_async.kube.auth.proxy import proxy_from_environment

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_MARGIN = 60.0
"""Seconds before its expiry that a token is exchanged."""


class _Claims(msgspec.Struct):
    exp: float | None = None


class _Discovery(msgspec.Struct):
    token_endpoint: str


class _Tokens(msgspec.Struct):
    id_token: str
    refresh_token: str | None = None


@dataclass(frozen=True)
class OidcUser:
    """Whoever the issuer says we are."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    ca_file: str | None = None
    ca_data: str | None = field(default=None, repr=False)

    def open(self) -> Source:
        return _OidcSource(self)


class _OidcSource:
    """The tokens as they are now; refresh tokens may be good for one use."""

    def __init__(self, user: OidcUser) -> None:
        self._user = user
        self._tokens = _Tokens(user.id_token, user.refresh_token)
        self._given = False

    async def fetch(self) -> Grant:
        """The id-token while it lasts; a new one when asked again. Raises `CredentialError`."""
        left = _seconds_left(self._tokens.id_token)
        if self._given or not self._tokens.id_token or (left is not None and left <= _MARGIN):
            await self._exchange()
            left = _seconds_left(self._tokens.id_token)
        self._given = True
        return Grant(bearer(self._tokens.id_token), None, None if left is None else max(1.0, left - _MARGIN))

    async def _exchange(self) -> None:
        if not self._tokens.refresh_token:
            raise CredentialError("the kubeconfig's OIDC id-token is missing or expired and there is no refresh-token")
        user = self._user
        try:
            context = await asyncio.to_thread(ssl.create_default_context, cafile=user.ca_file, cadata=user.ca_data)
            connector = aiohttp.TCPConnector(ssl=context)
            async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, raise_for_status=True) as session:
                where = f"{user.issuer}/.well-known/openid-configuration"
                discovery = await _ask(session, "GET", where)
                endpoint = msgspec.json.decode(discovery, type=_Discovery).token_endpoint
                form, headers = self._question()
                answer = await _ask(session, "POST", endpoint, data=form, headers=headers)
                tokens = msgspec.json.decode(answer, type=_Tokens)
        except aiohttp.ClientResponseError as error:
            raise self._error(f"answered HTTP {error.status}; log in again if the refresh-token is used up") from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise self._error(f"gave no token ({type(error).__name__})") from error
        self._tokens = _Tokens(tokens.id_token, tokens.refresh_token or self._tokens.refresh_token)

    def _question(self) -> tuple[dict[str, str], dict[str, str]]:
        """The form and the headers of a refresh (RFC 6749, sections 6 and 2.3.1)."""
        form = {"grant_type": "refresh_token", "refresh_token": self._tokens.refresh_token or ""}
        if not self._user.client_secret:
            return {**form, "client_id": self._user.client_id}, {}
        pair = basic(quote_plus(self._user.client_id), quote_plus(self._user.client_secret))
        return form, {"Authorization": pair}

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f"the OIDC issuer {self._user.issuer} of the kubeconfig {what}")


async def _ask(session: aiohttp.ClientSession, method: str, url: str, **options: Any) -> bytes:
    proxy = proxy_from_environment(url, os.environ)
    async with session.request(method, url, proxy=proxy, **options) as response:
        return await response.read()


def _seconds_left(token: str) -> float | None:
    """How long a JWT lasts, as it says itself; `None` if it does not."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return None if claims.exp is None else claims.exp - time.time()
