"""Resolve a connection and arguments to a cluster. Connections are real ones, from the environment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse, GetConnection

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.airflow import AIRFLOW_VERSION, get_connection
from kpo_async.hooks.connection import FRESH_FOR
from kpo_async.hooks.kubernetes import KubernetesHook, cluster_source
from kpo_async.kube.auth import ClusterSource
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.build import ConnectionDefaults

needs_asynchronous_channel = pytest.mark.skipif(
    AIRFLOW_VERSION.startswith("3.1."), reason="before Airflow 3.2 a worker has no asynchronous channel"
)
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "from-context"}}],
    "clusters": [{"name": "here", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "me", "user": {"token": "s3cr3t-token"}}],
}


@pytest.fixture(scope="module", autouse=True)
def airflow_is_warm() -> None:
    """Airflow imports much of itself for its first connection, which would count as blocking the loop."""
    asyncio.run(cluster_source("kubernetes_default"))


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch):
    """Define a connection as an administrator would, by an environment variable."""

    def define(conn_id: str, extra: object) -> None:
        body = {"conn_type": "kubernetes", "extra": extra if isinstance(extra, str) else json.dumps(extra)}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(body))

    return define


async def test_without_connection_and_arguments_the_loader_chooses_the_cluster():
    assert await cluster_source(None) == (ClusterSource(), ConnectionDefaults())


async def test_an_undefined_default_connection_counts_as_an_empty_one():
    assert await cluster_source("kubernetes_default") == (ClusterSource(), ConnectionDefaults())


async def test_a_missing_connection_is_named_with_advice():
    with pytest.raises(ConfigError, match=r"'elsewhere' is not defined.*kubernetes_conn_id=None"):
        await cluster_source("elsewhere")


class FailingAirflow:
    """Answers for a connection once its database is there again; until then each request fails."""

    def __init__(self, extra: object, outages: int) -> None:
        self._extra = json.dumps(extra)
        self._outages = outages

    async def asend(self, message: object) -> object:
        return self.send(message)

    def send(self, message: object) -> object:
        assert isinstance(message, GetConnection)
        self._outages -= 1
        if self._outages >= 0:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500}))
        given = {"conn_id": message.conn_id, "conn_type": "kubernetes", "extra": self._extra}
        return ConnectionResult(**{**dict.fromkeys(("host", "schema", "login", "password", "port")), **given})


@needs_asynchronous_channel
@pytest.mark.virtual_time
async def test_a_connection_that_airflow_cannot_be_asked_for_at_first_is_not_taken_for_an_undefined_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", FailingAirflow({"namespace": "jobs"}, 9), raising=False)
    _, defaults = await cluster_source("kubernetes_default")
    assert defaults.namespace == "jobs"


@needs_asynchronous_channel
@pytest.mark.virtual_time
async def test_a_connection_that_airflow_cannot_be_asked_for_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", FailingAirflow({}, 1000), raising=False)
    with pytest.raises(ConfigError, match="Airflow does not answer with connection 'kubernetes_default'"):
        await cluster_source("kubernetes_default")


SOURCES = {
    "nothing": ({}, ClusterSource()),
    "in cluster": ({"in_cluster": True}, ClusterSource(in_cluster=True)),
    "in cluster as a word": ({"in_cluster": "True"}, ClusterSource(in_cluster=True)),
    "not in cluster as a word": ({"in_cluster": "false"}, ClusterSource(in_cluster=False)),
    "a path": ({"kube_config_path": "/etc/k"}, ClusterSource(config_file="/etc/k")),
    "an empty path": ({"kube_config_path": ""}, ClusterSource()),
    "a context": ({"cluster_context": "blue"}, ClusterSource(context="blue")),
    "inline JSON": ({"kube_config": json.dumps(KUBECONFIG)}, ClusterSource(config_dict=KUBECONFIG)),
    "inline object": ({"kube_config": KUBECONFIG}, ClusterSource(config_dict=KUBECONFIG)),
    "inline YAML": (
        {"kube_config": "apiVersion: v1\nkind: Config\n"},
        ClusterSource(config_dict={"apiVersion": "v1", "kind": "Config"}),
    ),
    "no verification": ({"disable_verify_ssl": True}, ClusterSource(verify_ssl=False)),
    "verification kept": ({"disable_verify_ssl": "False"}, ClusterSource()),
    "no keepalive": ({"disable_tcp_keepalive": "true"}, ClusterSource(tcp_keepalive=False)),
    "a limit of requests": ({"requests_per_second": "20"}, ClusterSource(requests_per_second=20)),
    "own CA": ({"ssl_ca_cert": "/etc/ca.pem"}, ClusterSource(ca_cert="/etc/ca.pem")),
    "old names": ({"extra__kubernetes__in_cluster": True}, ClusterSource(in_cluster=True)),
    "a new name beats an old one": (
        {"in_cluster": False, "extra__kubernetes__in_cluster": True},
        ClusterSource(in_cluster=False),
    ),
}


@pytest.mark.parametrize(("extra", "expected"), SOURCES.values(), ids=SOURCES)
async def test_extras_become_a_cluster_source(define, extra: dict[str, Any], expected: ClusterSource):
    define("k8s", extra)
    source, _ = await cluster_source("k8s")
    assert source == expected


async def test_a_connection_written_as_a_uri_works(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW_CONN_K8S", "kubernetes://?in_cluster=False&kube_config_path=%2Fetc%2Fk&namespace=jobs")
    source, defaults = await cluster_source("k8s")
    assert (source.in_cluster, source.config_file, defaults.namespace) == (False, "/etc/k", "jobs")


ARGUMENTS = {
    "in_cluster": ({"in_cluster": True}, {"in_cluster": False}, ClusterSource(in_cluster=False)),
    "config_file": ({"kube_config_path": "/a"}, {"config_file": "/b"}, ClusterSource(config_file="/b")),
    "context": ({"cluster_context": "a"}, {"cluster_context": "b"}, ClusterSource(context="b")),
    "verification": ({"disable_verify_ssl": True}, {"disable_verify_ssl": False}, ClusterSource()),
    "keepalive": ({"disable_tcp_keepalive": True}, {"disable_tcp_keepalive": False}, ClusterSource()),
    "in_cluster off frees the file": (
        {"in_cluster": True},
        {"in_cluster": False, "config_file": "/b"},
        ClusterSource(in_cluster=False, config_file="/b"),
    ),
}


@pytest.mark.parametrize(("extra", "arguments", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
async def test_arguments_override_extras(
    define, extra: dict[str, Any], arguments: dict[str, Any], expected: ClusterSource
):
    define("k8s", extra)
    source, _ = await cluster_source("k8s", **arguments)
    assert source == expected


CLASHES = {
    "two extras": (
        {"in_cluster": True, "kube_config_path": "/a"},
        {},
        ["`in_cluster` of connection 'k8s'", "`kube_config_path` of"],
    ),
    "argument and extra": (
        {"kube_config": KUBECONFIG},
        {"config_file": "/a"},
        ["argument `config_file`", "`kube_config` of connection"],
    ),
    "two arguments": (
        {},
        {"in_cluster": True, "config_dict": KUBECONFIG},
        ["argument `in_cluster`", "argument `config_dict`"],
    ),
}


@pytest.mark.parametrize(("extra", "arguments", "names"), CLASHES.values(), ids=CLASHES)
async def test_two_settings_that_name_a_cluster_are_refused_and_both_are_named(define, extra, arguments, names):
    define("k8s", extra)
    with pytest.raises(ConfigError) as caught:
        await cluster_source("k8s", **arguments)
    assert all(name in str(caught.value) for name in names)
    assert "s3cr3t" not in str(caught.value)


MALFORMED = {
    "a word that is no boolean": ({"in_cluster": "maybe"}, "`in_cluster` of connection 'k8s' must be true or false"),
    "a list for a kubeconfig": ({"kube_config": "[s3cr3t]"}, "`kube_config` of connection 'k8s' must be an object"),
    "a broken kubeconfig": (
        {"kube_config": '{"s3cr3t": '},
        "`kube_config` of connection 'k8s' is neither JSON nor YAML",
    ),
    "a number for a namespace": ({"namespace": 5}, "`namespace` of connection 'k8s' must be a string"),
    # Airflow 3.1 itself takes a connection with such an extra for none at all.
    "a list for an extra": (
        "[1]",
        "The extra of connection 'k8s' must be a JSON object|Connection 'k8s' is not defined",
    ),
}


@pytest.mark.parametrize(("extra", "message"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_extra_is_named_but_not_quoted(define, extra: object, message: str):
    define("k8s", extra)
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")) as caught:
        await cluster_source("k8s")
    assert "s3cr3t" not in str(caught.value)


async def test_a_connections_defaults_for_pods_are_returned_with_the_source(define):
    resources = {"requests": {"cpu": "5m"}}
    define(
        "k8s",
        {
            "namespace": "jobs",
            "xcom_sidecar_container_image": "registry/alpine",
            "xcom_sidecar_container_resources": json.dumps(resources),
            "xcom_sidecar_container_security_context": {"runAsUser": 5},
        },
    )
    _, defaults = await cluster_source("k8s")
    assert defaults == ConnectionDefaults(
        namespace="jobs",
        xcom_sidecar_image="registry/alpine",
        xcom_sidecar_resources=resources,
        xcom_sidecar_security_context={"runAsUser": 5},
    )


async def test_many_requests_for_a_connection_cause_one_fetch(define, monkeypatch: pytest.MonkeyPatch):
    define("k8s", {"namespace": "jobs"})
    asked = 0

    async def counted(conn_id: str) -> Any:
        nonlocal asked
        asked += 1
        return await get_connection(conn_id)

    monkeypatch.setattr("kpo_async.hooks.connection.get_connection", counted)
    first = asyncio.create_task(cluster_source("k8s"))
    others = [asyncio.create_task(cluster_source("k8s")) for _ in range(100)]
    await asyncio.sleep(0)
    first.cancel()
    answers = [(await other)[1].namespace for other in others]
    answers.append((await cluster_source("k8s"))[1].namespace)
    assert (set(answers), asked) == ({"jobs"}, 1)


@pytest.mark.virtual_time
async def test_a_changed_connection_is_used_within_half_a_minute(define):
    define("k8s", {"namespace": "before"})
    assert (await cluster_source("k8s"))[1].namespace == "before"
    define("k8s", {"namespace": "after"})
    await asyncio.sleep(FRESH_FOR)
    assert (await cluster_source("k8s"))[1].namespace == "after"


async def test_a_failed_fetch_is_not_kept(define):
    with pytest.raises(ConfigError):
        await cluster_source("k8s")
    define("k8s", {})
    assert await cluster_source("k8s")


async def test_a_printed_source_holds_no_secret(define):
    define("k8s", {"kube_config": KUBECONFIG})
    source, _ = await cluster_source("k8s")
    assert "s3cr3t" not in repr(source)


def test_the_test_button_shows_what_is_wrong_with_the_connection(define):
    define("k8s", {"in_cluster": "maybe"})
    assert KubernetesHook("k8s").test_connection() == (
        False,
        "`in_cluster` of connection 'k8s' must be true or false.",
    )


async def test_the_test_button_shows_that_the_server_answers_and_what_it_allows(define, local_cluster: LocalCluster):
    define("k8s", {"kube_config_path": str(local_cluster.kubeconfig), "namespace": "default"})
    works, message = await asyncio.to_thread(KubernetesHook("k8s").test_connection)
    assert works, message
    assert "answers; this identity may create pods in namespace 'default'" in message


@pytest.mark.timeout(20)
def test_the_test_button_gives_up_on_an_unreachable_server(define):
    define("k8s", {"kube_config": KUBECONFIG})
    works, message = KubernetesHook("k8s").test_connection()
    assert not works
    assert "http://127.0.0.1:9" in message
    assert "s3cr3t" not in message


def test_the_hook_returns_the_namespace_of_its_connection_to_synchronous_code(define):
    define("k8s", {"namespace": "jobs"})
    assert KubernetesHook(kubernetes_conn_id="k8s").get_namespace() == "jobs"


def test_the_hook_works_in_a_running_event_loop(define):
    pytest.importorskip("kubernetes")
    define("k8s", {"namespace": "jobs", "kube_config": KUBECONFIG})

    async def in_a_notebook() -> tuple[str | None, str]:
        hook = KubernetesHook("k8s")
        return hook.get_namespace(), hook.get_conn().configuration.host

    assert asyncio.run(in_a_notebook()) == ("jobs", "http://127.0.0.1:9")


def test_the_form_of_older_airflows_has_the_fields_of_the_metadata():
    pytest.importorskip("wtforms")
    from kpo_async.get_provider_info import provider_info

    (connection_type,) = provider_info(incumbent_installed=False)["connection-types"]
    assert set(KubernetesHook.get_connection_form_widgets()) == set(connection_type["conn-fields"])
    assert (
        KubernetesHook.get_ui_field_behaviour()["hidden_fields"]
        == connection_type["ui-field-behaviour"]["hidden-fields"]
    )


def test_the_synchronous_client_is_made_from_the_same_source(define):
    pytest.importorskip("kubernetes")
    define("k8s", {"kube_config": KUBECONFIG, "disable_verify_ssl": True})
    configuration = KubernetesHook("k8s").core_v1_client.api_client.configuration
    assert (configuration.host, configuration.verify_ssl) == ("http://127.0.0.1:9", False)
