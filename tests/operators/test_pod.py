"""The operator when a DAG is parsed: what it accepts, what it refuses, what it loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import settings
from airflow.sdk import DAG, TaskGroup

from kpo_async.exceptions import ConfigError, KpoError, ManifestError
from kpo_async.hooks.airflow import AirflowException
from kpo_async.hooks.sync_client import core_v1
from kpo_async.kube.auth import ClusterSource
from kpo_async.models import to_v1pod
from kpo_async.operators.manifest import DEADLINE_MARGIN
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.pod_task import OnFinishAction

LOADED = """
import sys
import airflow.sdk
before = set(sys.modules)
import kpo_async.operators.pod
new = set(sys.modules) - before
print(sorted(name for name in ("kubernetes", "kubernetes_asyncio", "aiohttp") if name in new))
"""


def test_importing_the_operator_loads_no_kubernetes_client() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        pytest.param({"imgae": "x"}, TypeError, "imgae", id="an unknown parameter"),
        pytest.param(
            {"in_cluster": True, "config_file": "/k"}, ConfigError, "in_cluster=True and config_file", id="two clusters"
        ),
        pytest.param(
            {"config_dict": {}}, ConfigError, "extra `kube_config` of a connection", id="a kubeconfig in the DAG"
        ),
        pytest.param(
            {"trigger_kwargs": {"config_dict": {}}}, ConfigError, "config_dict", id="a kubeconfig for the trigger"
        ),
        pytest.param({"trigger_kwargs": ["a"]}, ConfigError, "a dict is needed", id="words for the trigger"),
        pytest.param({"log_formatter": "my.module.f"}, ConfigError, "log_formatter is 'my", id="a formatter's path"),
        pytest.param({"progress_callback": "f"}, ConfigError, "progress_callback", id="a callback's name"),
        pytest.param(
            {"callbacks": ["my.module.C"]}, ConfigError, "give the class itself", id="a callback class's path"
        ),
        *(
            pytest.param(
                {"retry_on_disruption": value},
                ConfigError,
                "give a whole number from 0 to 100",
                id=f"{value!r} retries",
            )
            for value in (-1, 101, True, "3", 1.5)
        ),
        pytest.param({"on_oom": 2.0}, ConfigError, "on_oom is a float: give a dict", id="no dict for on_oom"),
        pytest.param({"on_oom": {"memory": 0.5}}, ConfigError, "give a factor above 1", id="less memory"),
        pytest.param({"on_oom": {"memory": "2"}}, ConfigError, "give a factor above 1", id="a factor in quotes"),
        pytest.param({"on_oom": {"max": "1Gi"}}, ConfigError, "'memory'] is None", id="on_oom without a factor"),
        pytest.param(
            {"on_oom": {"memory": 2, "cpu": 2}}, ConfigError, "has the key 'cpu'", id="a key unknown to on_oom"
        ),
        pytest.param({"on_oom": {"memory": 2, "max": "16GB"}}, ConfigError, "give a quantity", id="no quantity"),
        pytest.param(
            {"on_oom": {"memory": 2, "max": 5}}, ConfigError, "give a quantity as text", id="a number of bytes"
        ),
        pytest.param(
            {"on_oom": {"memory": 2, "max": "1Gi"}, "container_resources": {"requests": {"memory": "2Gi"}}},
            ConfigError,
            "on_oom\\['max'\\] is '1Gi', below the memory in container_resources\\['requests'\\], '2Gi'",
            id="a max below the request",
        ),
        pytest.param({"startup_timeout_seconds": "60"}, ManifestError, "give a number", id="a number in quotes"),
        pytest.param({"skip_on_exit_code": "1"}, ManifestError, "skip_on_exit_code", id="an exit code in quotes"),
        pytest.param({"on_finish_action": "burn"}, ManifestError, "on_finish_action is 'burn'", id="an unknown action"),
        pytest.param({"on_kill_action": "burn"}, ManifestError, "on_kill_action", id="another unknown action"),
        pytest.param({"labels": ["a"]}, ManifestError, "labels", id="labels that are no dict"),
        pytest.param({"env_vars": "A=1"}, ManifestError, "env_vars", id="variables that are neither list nor dict"),
        pytest.param({"name": "a b"}, ManifestError, "name", id="a name with a space"),
        pytest.param(
            {"companion_grace_seconds": -1}, ConfigError, "companion_grace_seconds is -1", id="a negative grace"
        ),
        pytest.param({"companion_grace_seconds": "60"}, ConfigError, "give a number of", id="a grace in quotes"),
        pytest.param({"ignore_companions": [1]}, ConfigError, "ignore_companions", id="companions that are no names"),
        pytest.param({"ignore_companions": 3}, ConfigError, "ignore_companions is 3", id="a number of companions"),
        pytest.param({"xcom_transport": "pigeon"}, ManifestError, "xcom_transport", id="an unknown transport"),
    ],
)
def test_parameters_that_cannot_work_are_refused_at_parse(
    parameters: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        KubernetesPodOperator(task_id="task", **parameters)


@pytest.mark.parametrize(("old", "new"), [(True, OnFinishAction.DELETE_POD), (False, OnFinishAction.KEEP_POD)])
def test_is_delete_operator_pod_still_works_and_warns_with_its_replacement(old: bool, new: OnFinishAction) -> None:
    with pytest.warns(DeprecationWarning, match=f"on_finish_action='{new.value}'"):
        operator = KubernetesPodOperator(task_id="task", is_delete_operator_pod=old)
    assert operator.on_finish_action is new


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param(lambda value: {"image": value}, id="as a value"),
        pytest.param(lambda value: {"arguments": ["-c", value]}, id="in a list"),
        pytest.param(lambda value: {"env_vars": {"A": "1", "B": value}}, id="in a dict"),
        pytest.param(lambda value: {"volumes": [{"name": "v", "hostPath": {"path": value}}]}, id="deep in an object"),
    ],
)
def test_a_parameter_from_another_task_makes_that_task_upstream(parameters: Callable[[Any], dict[str, Any]]) -> None:
    with DAG("results", schedule=None):
        first = KubernetesPodOperator(task_id="first", do_xcom_push=True)
        second = KubernetesPodOperator(task_id="second", **parameters(first.output))
    assert second.upstream_task_ids == {"first"}


def test_the_operator_can_be_mapped() -> None:
    mapped = KubernetesPodOperator.partial(task_id="task", image="busybox").expand(env_vars=[{"A": "1"}, {"A": "2"}])
    assert mapped.operator_class is KubernetesPodOperator


def test_the_manifest_is_built_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    operator = KubernetesPodOperator(task_id="task", image="busybox:1.36", cmds=["true"], namespace="here")
    operator.dry_run()
    assert "namespace: here" in capsys.readouterr().out
    assert operator.build_pod_request_obj()["spec"]["containers"][0]["image"] == "busybox:1.36"


def test_a_subclass_may_name_its_base_container() -> None:
    class Operator(KubernetesPodOperator):
        BASE_CONTAINER_NAME = "main"

    manifest = Operator(task_id="task", image="busybox").build_pod_request_obj()
    assert [container["name"] for container in manifest["spec"]["containers"]] == ["main"]


def test_a_dry_run_with_a_context_reads_no_connection() -> None:
    operator = KubernetesPodOperator(task_id="task", image="busybox", kubernetes_conn_id="there_is_none")
    ti = SimpleNamespace(id="1", dag_id="d", task_id="task", run_id="r", try_number=1, map_index=-1)
    manifest = operator.build_pod_request_obj({"ti": ti}, dry_run=True)  # type: ignore[typeddict-item]
    assert manifest["metadata"]["labels"]["dag_id"] == "d"
    assert "airflow_kpo_in_cluster" not in manifest["metadata"]["labels"]


def test_a_context_made_by_hand_is_enough() -> None:
    operator = KubernetesPodOperator(task_id="task", image="busybox", kubernetes_conn_id=None)
    ti = SimpleNamespace(dag_id="d", task_id="task", try_number=1, map_index=None)
    by_hand: Any = {"ti": ti, "run_id": "r"}
    first, second = (operator.build_pod_request_obj(by_hand) for _ in range(2))
    assert first == second
    assert first["metadata"]["labels"]["run_id"] == "r"
    empty: Any = {}
    assert "dag_id" not in operator.build_pod_request_obj(empty)["metadata"]["labels"]


def test_a_subclass_that_treats_the_manifest_as_a_model_fails_with_advice() -> None:
    class Operator(KubernetesPodOperator):
        def build_pod_request_obj(self, context: Any = None, **kwargs: Any) -> Any:
            pod: Any = super().build_pod_request_obj()
            pod.metadata.labels["team"] = "data"
            return pod

    with pytest.raises(AirflowException, match=r"Operator\.build_pod_request_obj reads \.metadata of a plain dict"):
        Operator(task_id="task", image="busybox").execute({})  # type: ignore[typeddict-item]


def test_a_subclass_may_change_the_pod_as_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kubernetes")

    class Operator(KubernetesPodOperator):
        def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
            pod = to_v1pod(super().build_pod_request_obj(context, dry_run=dry_run))
            pod.spec.termination_grace_period_seconds = 7
            return pod

    Operator(task_id="task", image="busybox").dry_run()
    assert "terminationGracePeriodSeconds: 7" in capsys.readouterr().out


@pytest.fixture
def without_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import kubernetes` fail as where the package is not installed."""
    for name in ("kubernetes", "kubernetes.client"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_kubernetes")
def test_a_mutation_hook_gets_a_v1pod_without_the_package_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(pod: Any) -> None:
        pod.spec.containers[0].image_pull_policy = "Always"
        pod.metadata.labels["team"] = "data"

    monkeypatch.setattr(settings, "pod_mutation_hook", hook)
    built = KubernetesPodOperator(task_id="task", image="busybox").build_pod_request_obj()
    assert built["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    assert built["metadata"]["labels"]["team"] == "data"


@pytest.mark.usefixtures("without_kubernetes")
def test_a_mutation_hook_that_needs_the_package_kubernetes_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hook(pod: Any) -> None:
        from kubernetes.client import V1Toleration

        pod.spec.tolerations = [V1Toleration(key="a")]

    monkeypatch.setattr(settings, "pod_mutation_hook", hook)
    with pytest.raises(ConfigError, match=r"pod_mutation_hook imports 'kubernetes.*pip install 'kpo-async\[models\]'"):
        KubernetesPodOperator(task_id="task", image="busybox").build_pod_request_obj()


@pytest.mark.usefixtures("without_kubernetes")
def test_a_client_without_the_package_kubernetes_says_what_to_install() -> None:
    with pytest.raises(KpoError, match=r"'kubernetes.* is not installed: pip install 'kpo-async\[models\]'"):
        core_v1(ClusterSource())


def test_an_override_that_is_never_called_warns_at_the_class_definition() -> None:
    with pytest.warns(UserWarning, match=r"Operator\.cleanup is never called") as caught:

        class Operator(KubernetesPodOperator):
            def cleanup(self, pod: Any, remote_pod: Any) -> None: ...

    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("parameters", "deadline"),
    [
        pytest.param({}, None, id="no execution_timeout"),
        pytest.param({"execution_timeout": timedelta(seconds=59.5)}, 60 + DEADLINE_MARGIN, id="execution_timeout"),
        pytest.param({"execution_timeout": timedelta(hours=1), "active_deadline_seconds": 5}, 5, id="the user's own"),
        pytest.param(
            {
                "execution_timeout": timedelta(hours=1),
                "pod_template_dict": {"spec": {"containers": [], "activeDeadlineSeconds": 7}},
            },
            7,
            id="a template's",
        ),
    ],
)
def test_kubernetes_itself_ends_a_pod_that_outlives_its_tasks_time(
    parameters: dict[str, Any], deadline: int | None
) -> None:
    manifest = KubernetesPodOperator(task_id="t", image="i", **parameters).build_pod_request_obj()
    assert manifest["spec"].get("activeDeadlineSeconds") == deadline


def test_the_derived_active_deadline_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__ACTIVE_DEADLINE", "off")
    operator = KubernetesPodOperator(task_id="t", image="i", execution_timeout=timedelta(hours=1))
    assert "activeDeadlineSeconds" not in operator.build_pod_request_obj()["spec"]


def test_a_worker_checks_only_the_task_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse() -> DAG:
        with DAG("checked", schedule=None) as dag, TaskGroup("group"):
            KubernetesPodOperator(task_id="right", image="busybox:1.36")
            KubernetesPodOperator(task_id="wrong", image="busybox:1.36", in_cluster=True, config_file="/k")
        return dag

    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "group.right")
    assert set(parse().task_dict) == {"group.right", "group.wrong"}
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "group.wrong")
    with pytest.raises(ConfigError, match=r"'group\.wrong': in_cluster=True and config_file"):
        parse()
    monkeypatch.delenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID")
    with pytest.raises(ConfigError, match=r"'group\.wrong'"):
        parse()
