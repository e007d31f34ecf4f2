"""What subclasses of the incumbent's operator read of it and call, with an API server and pods in another process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.airflow import TaskDeferred
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.worker import TaskRun
from kpo_async.pod_task import Outcome
from tests.operators.test_worker import TaskInstance

pytest.importorskip("kubernetes")
from kubernetes.client import CoreV1Api, V1Pod


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[str]:
    command = [sys.executable, "-m", "kpo_async.localcluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as cluster:
        assert cluster.stdout is not None
        yield cluster.stdout.readline().strip()
        cluster.terminate()


def make(kind: type[KubernetesPodOperator], kubeconfig: str, script: str = "true", **parameters: Any) -> Any:
    defaults: dict[str, Any] = {"image": "busybox:1.36", "cmds": ["sh", "-c"], "kubernetes_conn_id": None}
    own = {"arguments": [script], "config_file": kubeconfig, "namespace": "default", **parameters}
    return kind(task_id="task", **{**defaults, **own})


def resume(operator: Any, ti: TaskInstance) -> Any:
    """Defer, and resume as Airflow does when the trigger has fired."""
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_async(context)
    pod = deferred.value.trigger.pod_task
    outcome = Outcome("succeeded", exit_code=0).to_dict()
    event = {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "outcome": outcome, "pod_owner": pod.owner}
    return make(type(operator), operator.config_file).resume_execution("trigger_reentry", {"event": event}, context)


def test_a_subclass_that_sets_parameters_late_calls_execute_sync_itself(kubeconfig: str) -> None:
    class Late(KubernetesPodOperator):
        def execute(self, context: Any) -> Any:
            self.arguments = ["echo '\"late\"' > /airflow/xcom/return.json"]
            return self.execute_sync(context)

    operator = make(Late, kubeconfig, do_xcom_push=True, deferrable=True)
    assert operator.execute({"ti": TaskInstance()}) == "late"


def test_execute_calls_the_subclasss_own_execute_async() -> None:
    class Async(KubernetesPodOperator):
        def execute_async(self, context: Any) -> Any:
            return "its own"

    assert Async(task_id="t", deferrable=True).execute({}) == "its own"  # type: ignore[typeddict-item]


def test_after_execute_the_pod_and_its_request_are_models(kubeconfig: str) -> None:
    operator = make(KubernetesPodOperator, kubeconfig)
    assert (operator.pod, operator.pod_request_obj, operator.remote_pod) == (None, None, None)
    ti = TaskInstance()
    operator.execute_sync({"ti": ti})
    assert isinstance(operator.pod, V1Pod)
    assert operator.pod.metadata.name == ti.xcoms["pod_name"]
    assert operator.pod is operator.pod is operator.remote_pod
    assert isinstance(operator.pod_request_obj, V1Pod)
    assert operator.pod_request_obj.spec.containers[0].image == "busybox:1.36"


def test_a_request_that_a_subclass_makes_itself_is_sent(kubeconfig: str) -> None:
    class Requesting(KubernetesPodOperator):
        def execute(self, context: Any) -> Any:
            from kpo_async.models import to_v1pod

            self.pod_request_obj = to_v1pod(self.build_pod_request_obj(context))
            assert self.pod_request_obj is not None
            self.pod_request_obj.metadata.annotations["team"] = "data"
            return super().execute(context)

    operator = make(Requesting, kubeconfig)
    operator.execute({"ti": TaskInstance()})
    assert operator.pod.metadata.annotations["team"] == "data"


def test_trigger_reentry_of_a_subclass_sees_the_pod_before_and_after(kubeconfig: str) -> None:
    seen: list[Any] = []

    class Reading(KubernetesPodOperator):
        def trigger_reentry(self, context: Any, event: Any) -> Any:
            seen.append(self.pod)
            super().trigger_reentry(context, event)
            seen.append(self.pod)

    class ReadingAfterwards(KubernetesPodOperator):
        def post_execute(self, context: Any, result: Any = None) -> None: ...

        def trigger_reentry(self, context: Any, event: Any) -> Any:
            super().trigger_reentry(context, event)
            seen.append(self.pod)

    for kind in (Reading, ReadingAfterwards):
        ti = TaskInstance()
        resume(make(kind, kubeconfig), ti)
        assert {pod.metadata.name for pod in seen} == {ti.xcoms["pod_name"]}
        assert all(pod.spec.containers for pod in seen)
        seen.clear()


def test_the_client_and_the_hook_reach_the_tasks_cluster(kubeconfig: str) -> None:
    operator = make(KubernetesPodOperator, kubeconfig)
    assert isinstance(operator.client, CoreV1Api)
    assert operator.client is operator.client
    assert operator.client.read_namespace("default").metadata.name == "default"
    assert operator.hook.core_v1_client is operator.client


def test_an_overridden_extract_xcom_makes_the_result(kubeconfig: str) -> None:
    class Extracting(KubernetesPodOperator):
        def extract_xcom(self, pod: Any = None, **kwargs: Any) -> Any:
            return {"of": pod.metadata.name, "result": super().extract_xcom(pod)}

    operator = make(Extracting, kubeconfig, "echo 5 > /airflow/xcom/return.json", do_xcom_push=True)
    ti = TaskInstance()
    assert operator.execute_sync({"ti": ti}) == {"of": ti.xcoms["pod_name"], "result": 5}


def test_what_cannot_be_had_raises_with_the_way_out(kubeconfig: str) -> None:
    operator = make(KubernetesPodOperator, kubeconfig)
    with pytest.raises(ConfigError, match=r"take the result that execute\(\) and trigger_reentry\(\) return"):
        operator.extract_xcom(pod=None)
    with pytest.raises(ConfigError, match=r"self\.pod cannot be set"):
        operator.pod = V1Pod()
    operator.pod = operator.remote_pod = None


def test_a_task_that_asks_for_nothing_makes_nothing(kubeconfig: str) -> None:
    operator = make(KubernetesPodOperator, kubeconfig)
    TaskRun(operator, {"ti": TaskInstance()}).run_to_completion()  # type: ignore[typeddict-item]
    assert isinstance(operator.known_pod, dict)
    assert not {"hook", "client"} & vars(operator).keys()


class FileCluster:
    """A hook that finds the cluster of a file."""

    def __init__(self, path: str, region: str) -> None:
        assert region == "eu-west-1", "rendered"
        self.path = path

    def get_kubeconfig(self) -> Any:
        kubeconfig = yaml.safe_load(Path(self.path).read_text())
        return kubeconfig


class OfACloud(KubernetesPodOperator):
    """A subclass as the clouds' providers have them, with templates of its own."""

    template_fields = (*KubernetesPodOperator.template_fields, "region")

    def __init__(self, *, path: str, region: str, **kwargs: Any) -> None:
        super().__init__(cluster_hook=FileCluster, kubernetes_conn_id=None, **kwargs)
        self.path = path
        self.region = region

    @property
    def cluster_hook_kwargs(self) -> dict[str, Any]:
        return {"path": self.path, "region": self.region}

    @cluster_hook_kwargs.setter
    def cluster_hook_kwargs(self, value: Any) -> None: ...


def test_a_subclass_finds_its_cluster_by_a_hook_with_rendered_arguments(kubeconfig: str) -> None:
    operator = OfACloud(
        task_id="task", image="busybox:1.36", cmds=["true"], path=kubeconfig, region="{{ region }}", deferrable=True
    )
    operator.render_template_fields({"region": "eu-west-1"})  # type: ignore[typeddict-unknown-key]
    context: Any = {"ti": TaskInstance()}
    operator.execute_sync(context)
    assert operator.client.read_namespace("default").metadata.name == "default"
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_async({"ti": TaskInstance()})  # type: ignore[typeddict-item]
    stored = deferred.value.trigger.serialize()[1]["pod_task"]
    assert stored["cluster_hook"] == f"{__name__}:FileCluster"
    assert stored["cluster_hook_kwargs"] == {"path": kubeconfig, "region": "eu-west-1"}
    assert "token" not in str(stored)
