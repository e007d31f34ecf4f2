"""How credentials are kept fresh, and what follows a 401."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kpo_async.exceptions import UnauthorizedError
from kpo_async.kube.auth.credentials import (
    ClientCertificate,
    CredentialError,
    FileCredentials,
    Grant,
    GrantCache,
    StaticCredentials,
    basic,
)
from tests.kube.scripted_server import ok, refuse, scripted
from tests.virtual_time import time_held


@pytest.mark.virtual_time
async def test_a_token_file_is_read_again_every_minute(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    cache = GrantCache(FileCredentials(token_file=str(path)))
    assert (await cache.grant()).authorization == "Bearer first"
    path.write_text("second\n")
    await asyncio.sleep(59)
    assert (await cache.grant()).authorization == "Bearer first"
    await asyncio.sleep(2)
    assert (await cache.grant()).authorization == "Bearer second"


async def test_a_rejected_token_is_read_again_at_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    user = FileCredentials(token_file=str(path))
    async with scripted(ok(), refuse(401, "Unauthorized"), ok()) as server, server.client(user) as client:
        await client.get("pods", "x", "ns")
        path.write_text("new")
        await client.get("pods", "x", "ns")
        assert [request.headers["Authorization"] for request in server.requests] == [
            "Bearer old",
            "Bearer old",
            "Bearer new",
        ]


async def test_a_second_401_is_reported_without_another_retry() -> None:
    async with scripted(refuse(401, "Unauthorized")) as server, server.client(StaticCredentials("Bearer T")) as client:
        with pytest.raises(UnauthorizedError, match="rejects the credentials"):
            await client.get("pods", "x", "ns")
        assert len(server.requests) == 2


async def test_a_stream_renews_a_rejected_token_too(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("T")
    user = FileCredentials(token_file=str(path))
    async with scripted(refuse(401, "Unauthorized"), ok()) as server, server.client(user) as client:
        async with client.watch("pods", "ns") as chunks:
            assert [chunk async for chunk in chunks] == [b"{}"]
        assert len(server.requests) == 2


async def test_many_401s_at_once_cost_one_renewal(tmp_path: Path) -> None:
    reads = 0

    class Counting(FileCredentials):
        def _read(self) -> Grant:
            nonlocal reads
            reads += 1
            return super()._read()

    path = tmp_path / "token"
    path.write_text("T")
    cache = GrantCache(Counting(token_file=str(path)))
    rejected = await cache.grant()
    fresh = await asyncio.gather(*(cache.replace(rejected) for _ in range(50)))
    assert reads == 2
    assert await cache.replace(rejected) is fresh[0]
    assert reads == 2


async def test_certificate_files_are_read_again(tmp_path: Path) -> None:
    certificate, key = tmp_path / "crt", tmp_path / "key"
    certificate.write_bytes(b"C1")
    key.write_bytes(b"K1")
    cache = GrantCache(FileCredentials(certificate_file=str(certificate), key_file=str(key), authorization="Bearer T"))
    first = await cache.grant()
    assert first == Grant("Bearer T", ClientCertificate(b"C1", b"K1"), 60)
    certificate.write_bytes(b"C2")
    assert (await cache.replace(first)).certificate == ClientCertificate(b"C2", b"K1")


async def test_a_missing_token_file_names_the_path_and_the_host(tmp_path: Path) -> None:
    user = FileCredentials(token_file=str(tmp_path / "token"))
    with pytest.raises(CredentialError, match=r"token cannot be read on host .*: No such file or directory"):
        await user.fetch()
    async with scripted(ok()) as server, server.client(user) as client:
        with pytest.raises(UnauthorizedError, match="cannot watch pods"):
            async with client.watch("pods", "ns"):
                pytest.fail("there is nothing to watch with")


@pytest.mark.virtual_time
async def test_a_token_file_that_goes_away_leaves_the_token_in_use(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("T")
    cache = GrantCache(FileCredentials(token_file=str(path)))
    grant = await cache.grant()
    path.unlink()
    await asyncio.sleep(61)
    with time_held():
        assert await cache.grant() is grant


def test_a_password_becomes_a_basic_header() -> None:
    assert basic("user", "pa:ss") == "Basic dXNlcjpwYTpzcw=="


def test_no_secret_is_in_a_repr() -> None:
    pair = ClientCertificate(b"s3cr3t", b"s3cr3t")
    values = [
        StaticCredentials("Bearer s3cr3t", pair),
        FileCredentials(authorization="Bearer s3cr3t"),
        Grant("Bearer s3cr3t", pair),
    ]
    assert "s3cr3t" not in repr(values)
