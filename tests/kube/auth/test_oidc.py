"""OIDC: the id-token of the kubeconfig while it lasts, then the issuer's."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from kpo_async.kube.auth.credentials import CredentialError
from kpo_async.kube.auth.oidc import OidcProvider
from tests.kube.auth.kubeconfigs import kubeconfig, write


def jwt(seconds: float) -> str:
    claims = json.dumps({"exp": time.time() + seconds, "sub": "me"}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"


@dataclass
class Issuer:
    """An identity provider that knows one refresh token at a time."""

    url: str = ""
    ca: str = ""
    valid: str = "refresh-0"
    tokens: list[str] = field(default_factory=lambda: [jwt(3600), jwt(7200)])
    forms: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/realm/.well-known/openid-configuration":
            return web.json_response({"token_endpoint": f"{self.url}/token"})
        form = dict(await request.post())
        self.forms.append(form)
        self.authorizations.append(request.headers.get("Authorization"))
        if form["refresh_token"] != self.valid:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.valid = f"refresh-{len(self.forms)}"
        return web.json_response({"id_token": self.tokens[len(self.forms) - 1], "refresh_token": self.valid})

    def provider(self, **options: Any) -> OidcProvider:
        return OidcProvider(**{"issuer": f"{self.url}/realm", "client_id": "k", "refresh_token": "refresh-0",
                           "ca_data": self.ca, **options})  # fmt: skip


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    known = Issuer(ca=authority.cert_pem.bytes().decode())

    async def handle(request: web.Request) -> web.StreamResponse:
        return await known.answer(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    known.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield known
    await runner.cleanup()


async def test_an_unexpired_token_is_used_as_it_is(issuer: Issuer) -> None:
    token = jwt(600)
    grant = await issuer.provider(id_token=token).open().fetch()
    assert grant.authorization == f"Bearer {token}"
    assert grant.lifetime == pytest.approx(540, abs=5)
    assert not issuer.forms


@pytest.mark.parametrize("token", ["", jwt(-5), jwt(30)], ids=["none", "expired", "about to expire"])
async def test_a_missing_or_expiring_token_is_exchanged(issuer: Issuer, token: str) -> None:
    grant = await issuer.provider(id_token=token, client_secret="s").open().fetch()
    assert grant.authorization == f"Bearer {issuer.tokens[0]}"
    assert grant.lifetime == pytest.approx(3540, abs=5)
    assert issuer.forms == [{"grant_type": "refresh_token", "refresh_token": "refresh-0"}]
    assert issuer.authorizations == ["Basic azpz"]


async def test_a_rotated_refresh_token_is_used_next_time(issuer: Issuer) -> None:
    source = issuer.provider().open()
    await source.fetch()
    assert (await source.fetch()).authorization == f"Bearer {issuer.tokens[1]}"
    assert [form["refresh_token"] for form in issuer.forms] == ["refresh-0", "refresh-1"]
    assert issuer.forms[0]["client_id"] == "k"


@pytest.mark.parametrize(
    ("secret", "client_id", "authorization"), [("", "a b+c", None), ("s:t", None, "Basic YStiJTJCYzpzJTNBdA==")]
)
async def test_odd_characters_of_a_client_are_encoded_once(
    issuer: Issuer, secret: str, client_id: str | None, authorization: str | None
) -> None:
    await issuer.provider(client_id="a b+c", client_secret=secret).open().fetch()
    assert (issuer.forms[0].get("client_id"), issuer.authorizations) == (client_id, [authorization])


async def test_an_untrusted_issuer_gets_no_secret(issuer: Issuer) -> None:
    with pytest.raises(CredentialError, match="gave no token"):
        await issuer.provider(ca_data=trustme.CA().cert_pem.bytes().decode()).open().fetch()
    assert not issuer.forms


async def test_the_error_for_a_used_refresh_token_says_what_to_do_and_holds_no_secret(issuer: Issuer) -> None:
    with pytest.raises(CredentialError) as caught:
        await issuer.provider(refresh_token="s3cr3t").open().fetch()
    assert str(caught.value) == (
        f"the OIDC issuer {issuer.url}/realm of the kubeconfig answered HTTP 400; "
        "log in again if the refresh-token is used up"
    )


async def test_without_a_refresh_token_an_expired_token_is_an_error() -> None:
    with pytest.raises(CredentialError, match="expired and there is no refresh-token"):
        await OidcProvider(issuer="https://idp", client_id="k", id_token=jwt(-1)).open().fetch()


async def test_a_token_that_is_not_a_jwt_is_used_until_it_is_rejected() -> None:
    grant = await OidcProvider(issuer="https://idp", client_id="k", id_token="opaque").open().fetch()
    assert (grant.authorization, grant.lifetime) == ("Bearer opaque", None)


async def test_an_issuer_that_does_not_send_json_is_an_error(issuer: Issuer) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    issuer.answer = page  # type: ignore[method-assign]
    with pytest.raises(CredentialError, match="gave no token"):
        await issuer.provider().open().fetch()


async def test_a_silent_issuer_times_out(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    issuer.answer = silence  # type: ignore[method-assign]
    monkeypatch.setattr("kpo_async.kube.auth.oidc.ISSUER_TIMEOUT", 0.3)
    with pytest.raises(CredentialError, match="gave no token"):
        await issuer.provider().open().fetch()


def test_no_secret_is_in_its_repr() -> None:
    user = OidcProvider("https://idp", "k", client_secret="s3cr3t", id_token="s3cr3t", refresh_token="s3cr3t")
    assert "s3cr3t" not in repr(user)


STATIC_PATH = """
import asyncio, sys
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client

async def main():
    config = await load(ClusterSource(config_file=sys.argv[1]))
    async with Client(config, retry_budget=0.1) as client:
        await config.credentials.open().fetch()

asyncio.run(main())
print([name for name in sys.modules if name.startswith("kubernetes")])
"""


def test_a_static_kubeconfig_does_not_import_kubernetes_asyncio(tmp_path: Path) -> None:
    path = write(tmp_path / "config", kubeconfig(user={"token": "T"}))
    output = subprocess.run(
        [sys.executable, "-c", STATIC_PATH, path], check=True, capture_output=True, text=True
    ).stdout
    assert output == "[]\n"
