"""Clusters that users' classes find, and those of EKS and GKE, with small fakes of the clouds' programs."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_async import lifecycle
from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.hooks.clouds import EksCluster, GkeCluster
from kpo_async.hooks.cluster_hook import source_of
from kpo_async.kube.client import Client, connect
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod_task import ClusterRef, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
from tests.factories import identity, manifest, owner, pod_task

PROGRAM = f"""#!{sys.executable}
import json, os, sys
words = sys.argv[1:]
with open(os.environ["CALLS"], "a") as calls:
    print(os.path.basename(sys.argv[0]), *words, file=calls)
answers = json.load(open(os.environ["ANSWERS"]))
if words[:2] == ["eks", "describe-cluster"] and "nowhere" in words:
    sys.exit("An error occurred (ResourceNotFoundException): No cluster found for name: nowhere.")
describes = "describe" in words or "describe-cluster" in words
print(json.dumps(answers["eks" if words[0] == "eks" else "gke"] if describes else answers["token"]))
"""


@pytest.fixture(scope="module", autouse=True)
def airflow_is_warm() -> None:
    """Airflow imports much of itself for its first connection, which would count as blocking the loop."""
    asyncio.run(source_of(ClusterRef(conn_id="kubernetes_default"), None, {}))


@pytest.fixture
def calls(local_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put fakes of `aws`, `gcloud` and the plugin on the PATH. Return the file in which they note their calls."""
    document = yaml.safe_load(local_cluster.kubeconfig.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = base64.b64encode(Path(cluster["certificate-authority"]).read_bytes()).decode()
    endpoint = cluster["server"].removeprefix("https://")
    token = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential"}
    answers = {
        "eks": {"cluster": {"endpoint": cluster["server"], "certificateAuthority": {"data": authority}}},
        "gke": {
            "endpoint": "198.51.100.1",
            "privateClusterConfig": {"privateEndpoint": endpoint},
            "masterAuth": {"clusterCaCertificate": authority},
        },
        "token": {**token, "status": {"token": user["token"], "expirationTimestamp": "2126-01-01T00:00:00Z"}},
    }
    programs, noted, given = tmp_path / "bin", tmp_path / "calls", tmp_path / "answers.json"
    programs.mkdir()
    given.write_text(json.dumps(answers))
    for name in ("aws", "gcloud", "gke-gcloud-auth-plugin"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("CALLS", str(noted))
    monkeypatch.setenv("ANSWERS", str(given))
    return noted


CLOUDS: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "EKS": (
        EksCluster,
        {"name": "prod", "region": "eu-west-1", "role_arn": "arn:aws:iam::1:role/a"},
        [
            "aws eks describe-cluster --name prod --region eu-west-1 --output json",
            "aws eks get-token --cluster-name prod --role-arn arn:aws:iam::1:role/a --region eu-west-1 --output json",
        ],
    ),
    "GKE": (
        GkeCluster,
        {"name": "prod", "project": "shop", "location": "europe-west1", "private": True},
        [
            "gcloud container clusters describe prod --project shop --location europe-west1 --format json",
            "gke-gcloud-auth-plugin --use_application_default_credentials",
        ],
    ),
}


@pytest.mark.parametrize(("hook", "arguments", "expected"), CLOUDS.values(), ids=CLOUDS)
async def test_worker_and_triggerer_reach_a_clouds_cluster(
    local_client: Client, calls: Path, hook: Any, arguments: dict[str, Any], expected: list[str]
) -> None:
    source, _ = await source_of(ClusterRef(conn_id="kubernetes_default"), hook, arguments)
    async with connect(source) as client:
        task = identity()
        pod = await lifecycle.ensure_pod(client, manifest(task, "true"), owner(task))
    path = f"{hook.__module__}:{hook.__qualname__}"
    stored = pod_task(pod, cluster=ClusterRef(), cluster_hook=path, cluster_hook_kwargs=arguments).to_dict()
    trigger = KubernetesPodTrigger(json.loads(json.dumps(stored)))
    [event] = [event async for event in trigger.run()]
    assert event.payload["status"] == "success", event.payload["message"]
    noted = await asyncio.to_thread(calls.read_text)
    assert list(dict.fromkeys(noted.splitlines())) == expected


async def test_an_error_of_a_clouds_program_is_a_sentence(calls: Path) -> None:
    with pytest.raises(ConfigError, match=r"`aws eks describe-cluster --name` exited with 1: .*No cluster found"):
        await EksCluster("nowhere", "eu-west-1").get_kubeconfig()


async def test_a_cloud_without_its_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"`gcloud container clusters describe` cannot be run.*Install 'gcloud' here"):
        await GkeCluster("prod", "shop", "europe-west1").get_kubeconfig()


class Raising:
    def get_kubeconfig(self) -> Any:
        raise KeyError("credentials")


class Wrong:
    def __init__(self, **arguments: Any) -> None: ...

    def get_kubeconfig(self) -> Any:
        return "/tmp/kubeconfig"


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (Raising, "the cluster_hook Raising raised KeyError: 'credentials'"),
        (Wrong, r"Wrong\.get_kubeconfig\(\) returned a str: return the content"),
    ],
)
async def test_a_hook_that_gives_no_kubeconfig_is_named_in_the_outcome(hook: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await source_of(ClusterRef(), hook, {})
    task = PodTask("pod", "default", "uid", cluster_hook=f"{__name__}:{hook.__name__}")
    [event] = [event async for event in KubernetesPodTrigger(task.to_dict()).run()]
    assert event.payload["status"] == "error"


async def test_a_hook_that_the_triggerer_cannot_import_is_named_in_the_outcome() -> None:
    task = PodTask("pod", "default", "uid", cluster_hook="no.such.module:Hook")
    [event] = [event async for event in KubernetesPodTrigger(task.to_dict()).run()]
    assert event.payload["status"] == "error"
    assert "no.such.module:Hook cannot be imported" in event.payload["message"]


async def test_triggers_that_start_together_share_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    kubeconfig = {"clusters": []}

    class Counting:
        def get_kubeconfig(self) -> Any:
            made.append(1)
            return kubeconfig

    first, second = [(await source_of(ClusterRef(), Counting, {}))[0] for _ in range(2)]
    assert first.key == second.key
    assert made == [1]


def test_impossible_hooks_are_refused_at_parse() -> None:
    from kpo_async.operators.pod import KubernetesPodOperator

    class Local(Wrong): ...

    for parameters, words in (
        ({"cluster_hook": "my.module.Hook"}, "give a class with a method get_kubeconfig"),
        ({"cluster_hook": EksCluster, "config_file": "/k"}, "name two clusters"),
        ({"cluster_hook": EksCluster, "in_cluster": True}, "name two clusters"),
        ({"cluster_hook": Local, "deferrable": True}, "exists only while its function runs"),
        ({"cluster_hook": EksCluster, "cluster_hook_kwargs": {"a": object()}}, "stored as JSON"),
    ):
        with pytest.raises(KpoError, match=f"task 't': .*{words}"):
            KubernetesPodOperator(task_id="t", **parameters)  # type: ignore[arg-type]
