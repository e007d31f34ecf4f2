"""The configuration of a cluster: in-cluster, kubeconfigs, which source wins, and error messages."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest

from kpo_async.exceptions import ConfigError
from kpo_async.kube.auth import ClusterConfig, ClusterSource, load, load_blocking
from kpo_async.kube.auth import config as config_module
from kpo_async.kube.auth.credentials import ClientCertificate, FileCredentials, Grant, StaticCredentials
from kpo_async.kube.auth.exec_plugin import ExecPlugin
from kpo_async.kube.auth.oidc import OidcProvider
from tests.kube.auth.kubeconfigs import encoded, kubeconfig, write

CREDENTIALS = "client.authentication.k8s.io"
HERE = f'host "{socket.gethostname()}"'


@pytest.fixture(autouse=True)
def bare_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host that is no pod, has no kubeconfig and no proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("KUBE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config_module, "SERVICE_ACCOUNT", str(tmp_path / "serviceaccount"))


@pytest.fixture
def service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same host as a pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    write(tmp_path / "serviceaccount" / "token", "in-cluster-token\n")
    write(tmp_path / "serviceaccount" / "ca.crt", "CA")
    write(tmp_path / "serviceaccount" / "namespace", "airflow\n")
    return tmp_path / "serviceaccount"


def inline(**sections: Any) -> ClusterConfig:
    return load_blocking(ClusterSource(config_dict=kubeconfig(**sections)))


def grant(config: ClusterConfig) -> Grant:
    return asyncio.run(config.credentials.open().fetch())


# What wins


@pytest.mark.usefixtures("service_account")
def test_a_pod_uses_its_service_account(tmp_path: Path) -> None:
    config = load_blocking(ClusterSource())
    assert config.server == "https://10.96.0.1:443"
    assert config.namespace == "airflow"
    assert config.credentials == FileCredentials(token_file=str(tmp_path / "serviceaccount" / "token"))
    assert config.ca_file == str(tmp_path / "serviceaccount" / "ca.crt")


@pytest.mark.usefixtures("service_account")
def test_an_ipv6_service_address_is_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    assert load_blocking(ClusterSource(in_cluster=True)).server == "https://[fd00::1]:443"


@pytest.mark.usefixtures("service_account")
@pytest.mark.parametrize(
    ("source", "server"),
    [
        pytest.param({}, "https://10.96.0.1:443", id="nothing expected in a pod"),
        pytest.param({"in_cluster": True}, "https://10.96.0.1:443", id="in_cluster"),
        pytest.param({"in_cluster": False}, "https://from-env:6443", id="not in_cluster"),
        pytest.param({"context": "main"}, "https://from-env:6443", id="a context means a kubeconfig"),
        pytest.param({"config_file": "NAMED"}, "https://named:6443", id="a named file"),
        pytest.param({"config_dict": kubeconfig(cluster={"server": "https://dict:1"})}, "https://dict:1", id="a dict"),
    ],
)
def test_an_explicit_source_beats_the_service_account_and_that_the_environment(
    source: dict[str, Any], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", write(tmp_path / "env", kubeconfig(cluster={"server": "https://from-env:6443"})))
    named = write(tmp_path / "named", kubeconfig(cluster={"server": "https://named:6443"}))
    source = {name: named if value == "NAMED" else value for name, value in source.items()}
    assert load_blocking(ClusterSource(**source)).server == server


def test_the_home_directory_is_the_last_resort(tmp_path: Path) -> None:
    write(tmp_path / "home" / ".kube" / "config", kubeconfig())
    assert load_blocking(ClusterSource()).server == "https://api.example:6443"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"in_cluster": True, "config_file": "x"}, "in_cluster and config_file"),
        ({"in_cluster": True, "config_dict": {}}, "in_cluster and config_dict"),
        ({"config_file": "x", "config_dict": {}}, "config_file and config_dict"),
    ],
)
def test_two_sources_at_once_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named} are both set"):
        ClusterSource(**options)


# Kubeconfigs


def test_files_of_kubeconfig_are_merged_and_the_first_entry_of_a_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kubeconfig(cluster={"server": "https://first:1"})
    first["contexts"] = []
    second = kubeconfig(cluster={"server": "https://second:1"}, context={"namespace": "from-second"})
    second["current-context"] = "nowhere"
    paths = [str(tmp_path / "missing"), write(tmp_path / "a", first), write(tmp_path / "b", second)]
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(paths))
    config = load_blocking(ClusterSource())
    assert (config.server, config.namespace) == ("https://first:1", "from-second")


def test_paths_are_relative_to_the_file_that_holds_them(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "ca.pem", "CA")
    write(tmp_path / "elsewhere" / "tls" / "crt", "CERT")
    write(tmp_path / "elsewhere" / "tls" / "key", "KEY")
    write(tmp_path / "elsewhere" / "token", "T\n")
    user = {"client-certificate": "tls/crt", "client-key": "tls/key", "tokenFile": "token"}
    path = write(tmp_path / "elsewhere" / "config", kubeconfig(cluster={"certificate-authority": "ca.pem"}, user=user))
    config = load_blocking(ClusterSource(config_file=path))
    assert config.ca_file == str(tmp_path / "elsewhere" / "ca.pem")
    given = grant(config)
    assert (given.authorization, given.certificate) == ("Bearer T", ClientCertificate(b"CERT", b"KEY"))


def test_inline_data_beats_paths(tmp_path: Path) -> None:
    ca = write(tmp_path / "ca", "from a file")
    cluster = {"certificate-authority-data": encoded("CA"), "certificate-authority": ca}
    user = {"client-certificate-data": encoded("CERT"), "client-key-data": encoded("KEY"), "client-key": "/nowhere"}
    config = inline(cluster=cluster, user=user)
    assert (config.ca_data, config.ca_file) == ("CA", None)
    assert grant(config).certificate == ClientCertificate(b"CERT", b"KEY")


def test_a_certificate_may_be_half_inline_and_half_a_file(tmp_path: Path) -> None:
    key = write(tmp_path / "key", "KEY")
    config = inline(user={"client-certificate-data": encoded("CERT"), "client-key": key})
    assert grant(config).certificate == ClientCertificate(b"CERT", b"KEY")


@pytest.mark.parametrize(
    ("user", "authorization"),
    [
        pytest.param({}, None, id="anonymous"),
        pytest.param({"token": "T"}, "Bearer T", id="token"),
        pytest.param({"username": "u", "password": "p"}, "Basic dTpw", id="password"),
        pytest.param({"token": "T", "username": "u", "password": "p"}, "Bearer T", id="token before password"),
        pytest.param({"token": "T", "exec": {"command": "x"}}, "Bearer T", id="token before plugin"),
    ],
)
def test_the_user_section_becomes_a_header(user: dict[str, Any], authorization: str | None) -> None:
    assert grant(inline(user=user)).authorization == authorization


def test_every_tls_setting_of_the_cluster_is_used() -> None:
    cluster = {"insecure-skip-tls-verify": True, "tls-server-name": "kubernetes", "proxy-url": "http://p:1"}
    config = inline(cluster=cluster)
    assert (config.verify_ssl, config.tls_server_name, config.proxy) == (False, "kubernetes", "http://p:1")


def test_tls_settings_of_the_connection_beat_those_of_the_kubeconfig(tmp_path: Path) -> None:
    ca = write(tmp_path / "ca", "CA")
    document = kubeconfig(cluster={"certificate-authority-data": encoded("other")})
    config = load_blocking(ClusterSource(config_dict=document, ca_cert=ca, verify_ssl=False, tcp_keepalive=False))
    assert (config.ca_file, config.ca_data, config.verify_ssl, config.tcp_keepalive) == (ca, None, False, False)


def test_a_proxy_comes_from_the_environment_unless_the_host_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert inline().proxy == "http://proxy:3128"
    monkeypatch.setenv("NO_PROXY", "example")
    assert inline().proxy is None


def test_impersonation_becomes_headers() -> None:
    user = {"as": "jane", "as-groups": ["dev", "ops"], "as-uid": "7", "as-user-extra": {"scope": ["a"]}}
    assert inline(user=user).headers == (
        ("Impersonate-User", "jane"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"), ("Impersonate-Extra-scope", "a"),
    )  # fmt: skip


def test_a_plugin_with_a_path_is_relative_to_its_kubeconfig(tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./bin/login"}
    path = write(tmp_path / "config", kubeconfig(user={"exec": plugin}))
    user = load_blocking(ClusterSource(config_file=path)).credentials
    assert isinstance(user, ExecPlugin)
    assert user.command == str(tmp_path / "bin" / "login")


def test_oidc_needs_an_issuer_with_tls() -> None:
    provider = {"name": "oidc", "config": {"idp-issuer-url": "https://idp/", "client-id": "k", "refresh-token": "R"}}
    user = inline(user={"auth-provider": provider}).credentials
    assert user == OidcProvider(issuer="https://idp", client_id="k", refresh_token="R")
    provider["config"] = {"idp-issuer-url": "http://idp", "refresh-token": "R"}
    with pytest.raises(ConfigError, match="https://"):
        inline(user={"auth-provider": provider})


def test_a_server_may_come_without_scheme() -> None:
    assert inline(cluster={"server": "api.example:6443"}).server == "https://api.example:6443"


# Errors

MALFORMED: dict[str, tuple[Any, str]] = {
    "nothing in it": ({}, "has no current-context"),
    "unknown context": ({**kubeconfig(), "current-context": "prod"}, 'has no context "prod"; it has "main"'),
    "unknown cluster": (kubeconfig(context={"cluster": "x"}), 'has no cluster "x"; it has "c"'),
    "unknown user": (kubeconfig(context={"user": "x"}), 'has no user "x"; it has "u"'),
    "no cluster": (kubeconfig(context={"cluster": ""}), 'context "main" names no cluster'),
    "no server": (kubeconfig(cluster={"server": ""}), "must be a URL such as https://host:6443"),
    "a server that is no URL": (kubeconfig(cluster={"server": "https://[::1"}), "must be a URL"),
    "a password in the URL": (kubeconfig(cluster={"server": "https://u:s3cr3t@h"}), "holds credentials"),
    "a wrong type": (kubeconfig(user={"token": ["s3cr3t"]}), "got `array` - at `$.users[0].user.token`"),
    "no base64": (kubeconfig(cluster={"certificate-authority-data": "s3cr3t!"}), "authority-data is not base64"),
    "half a certificate": (kubeconfig(user={"client-key-data": encoded("s3cr3t")}), "go together"),
    "a missing CA": (kubeconfig(cluster={"certificate-authority": "/no/ca"}), f"/no/ca is missing on {HERE}"),
    "a missing key": (kubeconfig(user={"client-key": "/no/k", "client-certificate": "/no/c"}), "cannot be read on"),
    "a SOCKS proxy": (kubeconfig(cluster={"proxy-url": "socks5://u:s3cr3t@h"}), "must be an http:// or https:// URL"),
    "an old plugin": (
        kubeconfig(user={"exec": {"command": "aws", "apiVersion": f"{CREDENTIALS}/v1alpha1"}}),
        'the exec plugin "aws" speaks client.authentication.k8s.io/v1alpha1',
    ),
    "an interactive plugin": (
        kubeconfig(user={"exec": {"command": "x", "apiVersion": f"{CREDENTIALS}/v1", "interactiveMode": "Always"}}),
        "wants a terminal",
    ),
    "a removed provider": (kubeconfig(user={"auth-provider": {"name": "gcp"}}), 'auth-provider "gcp" was removed'),
}  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_a_wrong_kubeconfig_is_explained_without_its_secrets(document: Any, expected: str, tmp_path: Path) -> None:
    path = write(tmp_path / "config", document)
    for source, origin in (
        (ClusterSource(config_file=path), f"kubeconfig {path} on {HERE}"),
        (ClusterSource(config_dict=document), "the inline kubeconfig"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_blocking(source)
        text = str(caught.value)
        assert expected in text
        assert origin in text or "is missing on" in text
        assert "s3cr3t" not in text
        assert caught.value.__cause__ is None or "s3cr3t" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("a: [", "is not valid YAML: .* in line 2", id="unclosed"),
        pytest.param("\x00", "is not valid YAML", id="binary"),
        pytest.param("just text", "is malformed: Expected `object`, got `str`", id="text"),
        pytest.param("", "has no current-context", id="empty"),
    ],
)
def test_a_file_that_is_not_a_kubeconfig_is_reported(content: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_blocking(ClusterSource(config_file=write(tmp_path / "config", content)))


def test_the_error_for_a_missing_file_says_where_it_must_exist() -> None:
    with pytest.raises(ConfigError) as caught:
        load_blocking(ClusterSource(config_file="/no/config"))
    assert str(caught.value) == (
        f"no kubeconfig at /no/config on {HERE}; it must exist on every host that runs this task: "
        "workers, and triggerers for deferrable tasks"
    )


def test_the_error_for_no_configuration_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="give the connection a kubeconfig, or run inside the cluster"):
        load_blocking(ClusterSource())


def test_the_error_for_in_cluster_outside_a_cluster_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="is not a pod of a cluster"):
        load_blocking(ClusterSource(in_cluster=True))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(ConfigError, match="automountServiceAccountToken"):
        load_blocking(ClusterSource(in_cluster=True))


def test_an_unreadable_file_is_told_from_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_blocking(ClusterSource(config_file=str(tmp_path / "config")))


# Identity and secrets

SECRET = kubeconfig(
    user={"token": "s3cr3t", "password": "s3cr3t", "username": "u"}, cluster={"proxy-url": "http://a:s3cr3t@p"}
)


def test_no_secret_is_in_a_repr() -> None:
    source = ClusterSource(config_dict=SECRET)
    config = load_blocking(source)
    assert "s3cr3t" not in repr(source) + repr(config) + config.identity


def test_equal_configurations_have_equal_identities_and_others_do_not() -> None:
    assert inline(user={"token": "a"}).identity == inline(user={"token": "a"}).identity
    different = [
        inline(),
        inline(user={"token": "a"}),
        inline(user={"token": "b"}),
        inline(cluster={"server": "https://other"}),
        inline(cluster={"insecure-skip-tls-verify": True}),
        inline(cluster={"tls-server-name": "x"}),
        inline(context={"namespace": "x"}),
        inline(user={"as": "jane"}),
    ]
    assert len({config.identity for config in different}) == len(different)


def test_a_source_can_be_pickled_and_compared() -> None:
    source = ClusterSource(config_dict=SECRET, context="main")
    assert pickle.loads(pickle.dumps(source)) == source
    assert source.key == ClusterSource(config_dict=SECRET, context="main").key
    assert source.key != ClusterSource(config_dict=SECRET).key


# Reading


async def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    source = ClusterSource(config_file=write(tmp_path / "config", kubeconfig(user={"token": "old"})))
    before = await load(source)
    assert (await load(source)).identity == before.identity
    write(tmp_path / "config", kubeconfig(user={"token": "newer"}))
    assert await (await load(source)).credentials.open().fetch() == Grant("Bearer newer")


async def test_a_cancelled_waiter_does_not_cancel_the_others(tmp_path: Path) -> None:
    source = ClusterSource(config_file=write(tmp_path / "config", kubeconfig()))
    waiters = [asyncio.create_task(load(source)) for _ in range(5)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, ClusterConfig) for result in results[1:])


async def test_an_error_without_a_waiter_is_not_reported_as_unretrieved() -> None:
    waiter = asyncio.create_task(load(ClusterSource(config_file="/no/config")))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter


def test_an_empty_user_section_is_anonymous() -> None:
    assert inline().credentials == StaticCredentials()
