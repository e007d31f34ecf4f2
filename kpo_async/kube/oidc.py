"""Credentials from `auth-provider: oidc`: an id-token, exchanged for a new one by its refresh-token.

The new tokens stay in memory: a kubeconfig is read by many processes and written by none of them. TLS to the issuer is
always verified, for its client secret and refresh token go there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
import time
from dataclasses import dataclass, field

import aiohttp
import msgspec

from kpo_async.kube.credentials import CredentialError, Grant, Source, bearer

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
            async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, trust_env=True) as session:
                discovery = await _get(session, f"{user.issuer}/.well-known/openid-configuration")
                endpoint = msgspec.json.decode(discovery, type=_Discovery).token_endpoint
                answer = await self._post(session, endpoint)
        except aiohttp.ClientResponseError as error:
            raise self._error(f"answered HTTP {error.status}; log in again if the refresh-token is used up") from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise self._error(f"gave no token ({type(error).__name__})") from error
        self._tokens = _Tokens(answer.id_token, answer.refresh_token or self._tokens.refresh_token)

    async def _post(self, session: aiohttp.ClientSession, endpoint: str) -> _Tokens:
        form = {"grant_type": "refresh_token", "refresh_token": self._tokens.refresh_token or ""}
        secret = self._user.client_secret
        credentials = aiohttp.BasicAuth(self._user.client_id, secret) if secret else None
        if credentials is None:
            form["client_id"] = self._user.client_id
        async with session.post(endpoint, data=form, auth=credentials, raise_for_status=True) as response:
            return msgspec.json.decode(await response.read(), type=_Tokens)

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f"the OIDC issuer {self._user.issuer} of the kubeconfig {what}")


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, raise_for_status=True) as response:
        return await response.read()


def _seconds_left(token: str) -> float | None:
    """How long a JWT lasts, as it says itself; `None` if it does not."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return None if claims.exp is None else claims.exp - time.time()
