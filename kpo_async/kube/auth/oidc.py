"""Credentials from `auth-provider: oidc`: an id-token, and the issuer that exchanges a refresh-token for a new one.

kubernetes_asyncio talks to the issuer. It is imported in a thread, when a token is exchanged for the first time. New
tokens stay in memory: a kubeconfig is read by many processes and written by none of them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote_plus

import msgspec

from kpo_async.kube.auth.credentials import Authenticator, CredentialError, Grant, basic, bearer
from kpo_async.kube.auth.proxy import proxy_from_environment

ISSUER_TIMEOUT = 20.0
"""Seconds an OIDC issuer may take for one answer."""
_MARGIN = 60.0
"""Seconds before its expiry that a token is renewed."""


class _Claims(msgspec.Struct):
    exp: float | None = None


class _Tokens(msgspec.Struct):
    id_token: str
    refresh_token: str | None = None


@dataclass(frozen=True)
class OidcProvider:
    """An id-token, and the issuer that exchanges its refresh-token for a new one."""

    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    ca_file: str | None = None
    ca_data: str | None = field(default=None, repr=False)

    def open(self) -> Authenticator:
        return _OidcAuthenticator(self)


class _OidcAuthenticator:
    """Holds the latest tokens: an issuer may accept each refresh-token only once."""

    def __init__(self, provider: OidcProvider) -> None:
        self._provider = provider
        self._tokens = _Tokens(provider.id_token, provider.refresh_token)
        self._granted = ""
        """The id-token of the last grant. A fetch after it means that the token was rejected or is due."""

    async def fetch(self) -> Grant:
        """Return the id-token until it expires; a new one on the next call. Raises `CredentialError`."""
        token = self._tokens.id_token
        lifetime = _lifetime(token)
        if token == self._granted or (lifetime is not None and lifetime <= _MARGIN):
            token = await self._refresh()
            lifetime = _lifetime(token)
        self._granted = token
        return Grant(bearer(token), None, None if lifetime is None else max(1.0, lifetime - _MARGIN))

    async def _refresh(self) -> str:
        if not self._tokens.refresh_token:
            raise CredentialError("the kubeconfig's OIDC id-token is missing or expired and there is no refresh-token")
        try:
            requestor = await asyncio.to_thread(_open_requestor, self._provider)
            answer = await requestor.refresh_token(self._tokens.refresh_token)
            tokens = msgspec.convert(answer, _Tokens)
        except Exception as error:  # the library documents none; whatever it is, there is no token
            raise self._error(error) from error
        self._tokens = _Tokens(tokens.id_token, tokens.refresh_token or self._tokens.refresh_token)
        return tokens.id_token

    def _error(self, error: Exception) -> CredentialError:
        code = getattr(error.__context__, "status", 0)
        what = f"gave no token ({type(error).__name__})"
        if code >= 400:
            what = f"answered HTTP {code}; log in again if the refresh-token is used up"
        return CredentialError(f"the OIDC issuer {self._provider.issuer} of the kubeconfig {what}")


def _open_requestor(provider: OidcProvider) -> Any:
    """The issuer's client. Imports and reads files: call it in a thread."""
    context = ssl.create_default_context(cafile=provider.ca_file, cadata=provider.ca_data)
    return _requestor_type()(provider.client_id, provider.client_secret, provider.issuer, context)


@functools.cache
def _requestor_type() -> type[Any]:
    """kubernetes_asyncio's client of an issuer, with what it lacks: verified TLS, a time limit, public clients."""
    import aiohttp
    from kubernetes_asyncio.config.openid import OpenIDRequestor

    class Requestor(OpenIDRequestor):
        def _client_session(self) -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=cast(ssl.SSLContext, self._ssl_ca_cert)),
                headers=self._default_headers,
                timeout=aiohttp.ClientTimeout(total=ISSUER_TIMEOUT),
                proxy=proxy_from_environment(self._issuer_url, os.environ),
                raise_for_status=True,
            )

        async def _post(self, client: aiohttp.ClientSession, *args: Any, **options: Any) -> Any:
            if self._client_secret:  # form-encoded in the header, too: RFC 6749, section 2.3.1
                pair = quote_plus(self._client_id), quote_plus(self._client_secret)
                options["headers"] = {"Authorization": basic(*pair)}
            else:
                options["data"] = {**options["data"], "client_id": self._client_id}
            return await super()._post(client, *args, **options)

    return Requestor


def _lifetime(token: str) -> float | None:
    """Seconds until the expiry that a JWT states; `None` if it states none or is not a JWT."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, binascii.Error, ValueError, msgspec.MsgspecError):
        return None
    return None if claims.exp is None else claims.exp - time.time()
