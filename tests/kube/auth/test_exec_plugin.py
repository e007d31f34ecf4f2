"""Credentials from a program: its input, the lifetime of its output, and the errors when it fails."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from kpo_async.exceptions import UnauthorizedError
from kpo_async.kube.auth import ClusterConfig, ClusterSource, CredentialSource, exec_plugin, load_blocking
from kpo_async.kube.auth.credentials import ClientCertificate, CredentialError, Grant, GrantCache
from kpo_async.kube.auth.exec_plugin import ExecPlugin
from tests.kube.auth.kubeconfigs import kubeconfig
from tests.kube.scripted_server import ok, refuse, scripted
from tests.virtual_time import time_held

LONG_AGO = "2020-01-01T00:00:00Z"
V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"


def credential(version: str = V1, **status: Any) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def expiring(seconds: float, **status: Any) -> str:
    moment = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return credential(expirationTimestamp=moment.strftime("%Y-%m-%dT%H:%M:%SZ"), **status)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A program that answers with `answer` in its directory, and writes down each run."""
    path = tmp_path / "login"
    path.write_text('#!/bin/sh\ncd "$(dirname "$0")"\necho run >> runs\n. ./behave\ncat answer\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "behave").write_text("")
    return path


def source(plugin: Path, **options: Any) -> ExecPlugin:
    return ExecPlugin(command=str(plugin), **options)


def runs(plugin: Path) -> int:
    path = plugin.with_name("runs")
    return len(path.read_text().splitlines()) if path.exists() else 0


def answer(plugin: Path, text: str) -> None:
    plugin.with_name("answer").write_text(text)


def behave(plugin: Path, script: str) -> None:
    plugin.with_name("behave").write_text(script)


@pytest.mark.parametrize("version", [V1, V1BETA1])
async def test_its_token_is_used(plugin: Path, version: str) -> None:
    answer(plugin, credential(version, token="T"))
    assert await source(plugin, api_version=version).fetch() == Grant("Bearer T", None, None)


async def test_its_certificate_is_used(plugin: Path) -> None:
    answer(plugin, credential(clientCertificateData="CERT", clientKeyData="KEY"))
    assert await source(plugin).fetch() == Grant(None, ClientCertificate(b"CERT", b"KEY"), None)


async def test_it_gets_its_arguments_its_environment_and_the_cluster(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_HOST", "host")
    behave(plugin, 'echo "$@" > args; env > env')
    answer(plugin, credential(token="T"))
    section = {
        "apiVersion": V1, "command": str(plugin), "args": ["get", "token"], "env": [{"name": "REGION", "value": "eu"}],
        "provideClusterInfo": True,
    }  # fmt: skip
    cluster = {
        "certificate-authority-data": "Q0E=",
        "tls-server-name": "kubernetes",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}],
    }
    source = ClusterSource(config_dict=kubeconfig(user={"exec": section}, cluster=cluster))
    config = await asyncio.to_thread(load_blocking, source)
    await config.credentials.open().fetch()
    assert plugin.with_name("args").read_text() == "get token\n"
    environment = dict(line.split("=", 1) for line in plugin.with_name("env").read_text().splitlines())
    assert (environment["FROM_HOST"], environment["REGION"]) == ("host", "eu")
    assert json.loads(environment["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://api.example:6443",
                "tls-server-name": "kubernetes",
                "certificate-authority-data": "Q0E=",
                "config": {"audience": "a"},
            },
        },
    }


async def test_only_plugins_with_provide_cluster_info_get_the_cluster(plugin: Path) -> None:
    behave(plugin, 'echo "$KUBERNETES_EXEC_INFO" > info')
    answer(plugin, credential(token="T"))
    await source(plugin).fetch()
    assert json.loads(plugin.with_name("info").read_text())["spec"] == {"interactive": False}


@pytest.mark.parametrize(
    ("life", "renewed_after"), [(3600, 3540), (900, 840), (100, 90)], ids=["an hour", "EKS", "short-lived"]
)
async def test_a_credential_is_renewed_shortly_before_it_expires(
    plugin: Path, life: float, renewed_after: float
) -> None:
    answer(plugin, expiring(life, token="T"))
    lifetime = (await source(plugin).fetch()).lifetime
    assert lifetime == pytest.approx(renewed_after, abs=3)


@pytest.mark.virtual_time
async def test_it_runs_once_until_its_credential_is_due(plugin: Path) -> None:
    loop = asyncio.get_running_loop()
    answer(plugin, expiring(900, token="first"))
    cache = GrantCache(source(plugin))
    with time_held():
        await cache.grant()
    answer(plugin, expiring(900, token="second"))
    await asyncio.sleep(800 - loop.time())
    assert (await cache.grant()).authorization == "Bearer first"
    await asyncio.sleep(850 - loop.time())
    with time_held():
        assert (await cache.grant()).authorization == "Bearer second"
    assert runs(plugin) == 2


async def test_hundreds_of_waiters_share_one_run(plugin: Path) -> None:
    answer(plugin, credential(token="T"))
    cache = GrantCache(source(plugin))
    grants = await asyncio.gather(*(cache.grant() for _ in range(300)))
    assert runs(plugin) == 1
    rejected = grants[0]
    await asyncio.gather(*(cache.replace(rejected) for _ in range(300)))
    assert runs(plugin) == 2


async def test_hundreds_of_waiters_share_one_failure(plugin: Path) -> None:
    behave(plugin, "exit 3")
    cache = GrantCache(source(plugin))
    results = await asyncio.gather(*(cache.grant() for _ in range(300)), return_exceptions=True)
    assert {type(result) for result in results} == {CredentialError}
    assert runs(plugin) == 1


async def test_a_cancelled_waiter_does_not_cancel_the_run_for_the_others(plugin: Path) -> None:
    behave(plugin, "read _ < gate")
    os.mkfifo(plugin.with_name("gate"))
    answer(plugin, credential(token="T"))
    cache = GrantCache(source(plugin))
    impatient, patient = asyncio.create_task(cache.grant()), asyncio.create_task(cache.grant())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.to_thread(plugin.with_name("gate").write_text, "go\n")
    assert (await patient).authorization == "Bearer T"
    assert impatient.cancelled()


async def test_closing_ends_a_running_plugin(plugin: Path) -> None:
    os.mkfifo(plugin.with_name("pid"))
    behave(plugin, "echo $$ > pid; exec sleep 1000")
    cache = GrantCache(source(plugin))
    waiter = asyncio.create_task(cache.grant())
    pid = int(await asyncio.to_thread(plugin.with_name("pid").read_text))
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_failing_renewal_leaves_the_old_credential_in_use(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(plugin, expiring(2, token="T"))
    cache = GrantCache(source(plugin))
    grant = await cache.grant()
    behave(plugin, "exit 1")
    monkeypatch.setattr(cache, "_due", 0.0)
    assert await cache.grant() is grant
    with pytest.raises(CredentialError):
        await cache.replace(grant)


FAILURES = {
    "exit code": ("echo 'no credentials' >&2; exit 255", "", "failed with exit code 255 (no credentials)"),
    "killed": ("kill -9 $$", "", "failed with exit code -9"),
    "no JSON": ("", "token: s3cr3ts3cr3ts3cr3ts3cr3t", "did not print an ExecCredential;"),
    "wrong types": ("", credential(token=["s3cr3t"]), "did not print an ExecCredential: Expected `str | null`"),
    "another version": ("", credential(V1BETA1, token="s3cr3t"), f"printed {V1BETA1}, but the kubeconfig has {V1}"),
    "nothing": ("", credential(), "gave neither a token nor a client certificate"),
    "half a certificate": ("", credential(clientKeyData="s3cr3t"), "gave a client certificate without its key"),
    "expired": ("", credential(token="s3cr3t", expirationTimestamp=LONG_AGO), "gave a credential that expired"),
    "a secret in its complaint": (
        "echo 'bad token eyJhbGci.s3cr3ts3cr3ts3cr3t' >&2; exit 1", "", "failed with exit code 1 (bad token ***)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "output", "expected"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_names_the_command_and_the_host_and_no_secret(
    plugin: Path, script: str, output: str, expected: str
) -> None:
    behave(plugin, script)
    answer(plugin, output)
    with pytest.raises(CredentialError) as caught:
        await source(plugin).fetch()
    text = str(caught.value)
    assert text.startswith(f'the exec plugin "{plugin}" of the kubeconfig {expected}')
    assert text.endswith(f'this is host "{socket.gethostname()}"')
    assert "s3cr3t" not in text


async def test_a_missing_program_says_where_it_must_be_and_how_to_get_it() -> None:
    with pytest.raises(CredentialError) as caught:
        await ExecPlugin(command="no-such-login", install_hint="brew install no-such-login").fetch()
    assert str(caught.value) == (
        'the exec plugin "no-such-login" of the kubeconfig was not found in PATH; install it on every host that runs '
        "this task: workers, and triggerers for deferrable tasks (brew install no-such-login); "
        f'this is host "{socket.gethostname()}"'
    )


async def test_a_program_that_may_not_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("")
    with pytest.raises(CredentialError, match="cannot be started: Permission denied"):
        await ExecPlugin(command=str(tmp_path / "login")).fetch()


async def test_a_program_that_hangs_is_ended_with_all_it_started(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_plugin, "EXEC_TIMEOUT", 0.5)
    os.mkfifo(plugin.with_name("cache-open"))
    behave(plugin, "sleep 1000 > cache-open & wait")
    ended = asyncio.create_task(asyncio.to_thread(plugin.with_name("cache-open").read_text))
    with pytest.raises(CredentialError, match="gave no answer within"):
        await source(plugin).fetch()
    assert await ended == ""


async def test_a_rejected_token_is_fetched_again_once_and_the_call_succeeds(plugin: Path) -> None:
    answer(plugin, credential(token="old"))
    async with scripted(refuse(401, "Unauthorized"), ok()) as server, server.client(source(plugin)) as client:
        await client.get("pods", "x", "ns")
        assert [request.headers["Authorization"] for request in server.requests] == ["Bearer old", "Bearer old"]
    assert runs(plugin) == 2


async def test_a_call_reports_a_failing_plugin_as_unauthorized(plugin: Path) -> None:
    behave(plugin, "exit 1")
    async with scripted(ok()) as server, server.client(source(plugin)) as client:
        with pytest.raises(UnauthorizedError, match='cannot get pods "x" in namespace "ns": the exec plugin') as caught:
            await client.get("pods", "x", "ns")
        assert not server.requests
    assert (caught.value.code, caught.value.reason) == (0, "NoCredentials")


def test_its_arguments_and_environment_stay_out_of_its_repr() -> None:
    shown = repr(ExecPlugin(command="aws", args=("--secret", "s3cr3t"), environment=(("KEY", "s3cr3t"),)))
    assert "aws" in shown
    assert "s3cr3t" not in shown


def gcloud(plugin: Path) -> CredentialSource:
    """The plugin in place of gcloud, as a kubeconfig names it."""
    settings = {"cmd-path": str(plugin), "cmd-args": "config config-helper --format='json'"}
    user = {"auth-provider": {"name": "gcp", "config": settings}}
    return load_blocking(ClusterSource(config_dict=kubeconfig(user=user))).credentials


async def test_gcloud_is_run_for_a_token(plugin: Path) -> None:
    behave(plugin, 'echo "$*" > args')
    expiry = (datetime.now(timezone.utc) + timedelta(seconds=600)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer(plugin, json.dumps({"credential": {"access_token": "ya29", "token_expiry": expiry}, "configuration": {}}))
    source = await asyncio.to_thread(gcloud, plugin)
    grant = await source.open().fetch()
    assert grant.authorization == "Bearer ya29"
    assert grant.lifetime == pytest.approx(540, abs=5)
    assert plugin.with_name("args").read_text() == "config config-helper --format=json\n"


async def test_the_error_for_an_unknown_output_of_gcloud_holds_no_secret(plugin: Path) -> None:
    answer(plugin, json.dumps({"credential": "s3cr3t"}))
    source = await asyncio.to_thread(gcloud, plugin)
    with pytest.raises(
        CredentialError, match="did not print a credential as `gcloud config config-helper` does"
    ) as caught:
        await source.open().fetch()
    assert str(plugin) in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_gcloud_and_a_plugin_with_the_same_command_are_two_identities(plugin: Path) -> None:
    as_plugin = {"apiVersion": V1, "command": str(plugin), "args": ["config", "config-helper", "--format=json"]}
    configs = [
        ClusterConfig("https://api", credentials=source)
        for source in (
            gcloud(plugin),
            load_blocking(ClusterSource(config_dict=kubeconfig(user={"exec": as_plugin}))).credentials,
        )
    ]
    assert configs[0].identity != configs[1].identity
