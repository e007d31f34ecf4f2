"""The decorators at DAG parse, and their manifests. `tests/whole_airflow/test_decorated.py` runs them."""

from __future__ import annotations

import base64
import io
import pickle
import zipfile
from typing import Any

import pytest
from airflow.sdk import DAG, setup
from airflow.sdk.definitions.xcom_arg import _MapResult

from kpo_async.decorators.kubernetes import kubernetes_task
from kpo_async.decorators.kubernetes_cmd import kubernetes_cmd_task
from kpo_async.decorators.unpack import PREFIX
from kpo_async.exceptions import ManifestError
from kpo_async.operators.pod import KubernetesPodOperator

EMPTY: Any = {}


@pytest.fixture
def dag():
    with DAG("d", schedule=None) as dag:
        yield dag


def base_of(manifest: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = manifest["spec"]["containers"][0]
    return container


def arguments_of(manifest: dict[str, Any]) -> Any:
    """Return the arguments that the function gets in the pod."""
    environment = {variable["name"]: variable["value"] for variable in base_of(manifest)["env"]}
    payload = zipfile.ZipFile(io.BytesIO(base64.b64decode(environment[f"{PREFIX}_0"])))
    return pickle.loads(payload.read("arguments"))


# -- @task.kubernetes_async


def test_the_function_names_the_task_and_the_pod(dag: DAG):
    @kubernetes_task(image="python")
    def add_up() -> None: ...

    add_up()
    operator = dag.get_task("add_up")
    assert operator.build_pod_request_obj()["metadata"]["name"].startswith("k8s-airflow-pod-add-up-")


def test_the_decorator_works_without_parentheses(dag: DAG):
    task = kubernetes_task(_no_arguments)
    task.override(image="python")()
    assert dag.has_task("_no_arguments")


def _no_arguments() -> None: ...


def test_the_users_variables_are_kept_beside_the_payload_and_the_operator_is_not_changed(dag: DAG):
    @kubernetes_task(image="python", env_vars={"A": "1"})
    def f() -> None: ...

    f()
    operator = dag.get_task("f")
    names = [variable["name"] for variable in base_of(operator.build_pod_request_obj())["env"]]
    again = [variable["name"] for variable in base_of(operator.build_pod_request_obj())["env"]]
    assert names == again == ["A", "KPO_ASYNC_PAYLOAD_PARTS", "KPO_ASYNC_PAYLOAD_0"]
    assert operator.env_vars == {"A": "1"}


@pytest.mark.parametrize("given", [{"A": None}, [{"name": "A"}]], ids=["as a dict", "as a list"])
def test_a_variable_without_a_value_is_the_same_in_the_decorator_and_in_the_operator(dag: DAG, given: Any):
    @kubernetes_task(image="python", env_vars=given)
    def f() -> None: ...

    f()
    plain = KubernetesPodOperator(task_id="plain", image="python", env_vars=given)
    assert base_of(plain.build_pod_request_obj())["env"] == [{"name": "A"}]
    assert base_of(dag.get_task("f").build_pod_request_obj())["env"][0] == {"name": "A"}


def test_a_variable_given_as_a_model_is_kept(dag: DAG):
    client = pytest.importorskip("kubernetes.client")

    @kubernetes_task(image="python", env_vars=[client.V1EnvVar(name="A", value="1")])
    def f() -> None: ...

    f()
    assert {"name": "A", "value": "1"} in base_of(dag.get_task("f").build_pod_request_obj())["env"]


@pytest.mark.parametrize("taken", ["cmds", "arguments"])
def test_a_users_own_command_is_refused_when_the_dag_is_parsed(dag: DAG, taken: str):
    @kubernetes_task(image="python", **{taken: ["sh"]})
    def f() -> None: ...

    with pytest.raises(TypeError, match=f"cannot take {taken}"):
        f()


def test_an_unknown_serializer_is_refused_when_the_dag_is_parsed(dag: DAG):
    @kubernetes_task(image="python", serializer="marshal")
    def f() -> None: ...

    with pytest.raises(ValueError, match="marshal"):
        f()


def test_multiple_outputs_are_inferred_from_the_return_type(dag: DAG):
    @kubernetes_task(image="python")
    def several() -> dict[str, int]: ...

    @kubernetes_task(image="python", multiple_outputs=False)
    def one() -> dict[str, int]: ...

    several(), one()
    assert (dag.get_task("several").multiple_outputs, dag.get_task("one").multiple_outputs) == (True, False)


def test_arguments_are_templates_and_the_command_is_not(dag: DAG):
    @kubernetes_task(image="python")
    def f(x: str) -> None: ...

    f("{{ ds }}")
    operator = dag.get_task("f")
    assert {"op_args", "op_kwargs"} <= set(operator.template_fields)
    assert set(KubernetesPodOperator.template_fields) - set(operator.template_fields) == {"cmds", "arguments"}
    operator.render_template_fields({"ds": "2026-01-02"})
    assert list(operator.op_args) == ["2026-01-02"]


def test_the_results_of_a_mapped_task_are_sent_as_a_list(dag: DAG):
    @kubernetes_task(image="python")
    def total(numbers: list[int], more: Any) -> int: ...

    mapped = _MapResult([1, 2], [str])  # what Airflow hands over for `mapped.map(str)`
    manifest = total(mapped, more={"deep": (mapped,)}).operator.build_pod_request_obj()
    assert arguments_of(manifest) == ([["1", "2"]], {"more": {"deep": (["1", "2"],)}})


def test_wrong_arguments_fail_when_the_dag_is_parsed(dag: DAG):
    @kubernetes_task(image="python")
    def f(x: int) -> None: ...

    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        f()


def test_one_decorated_function_makes_many_tasks_and_can_be_mapped(dag: DAG):
    @kubernetes_task(image="python")
    def f(x: int, y: int = 0) -> None: ...

    f(1), f.override(task_id="other")(2), f.partial(y=1).expand(x=[1, 2])
    assert dag.task_ids == ["f", "other", "f__1"]


def test_a_setup_decorator_above_is_not_sent(dag: DAG):
    @setup
    @kubernetes_task(image="python")
    def prepare() -> None: ...

    prepare()
    assert dag.get_task("prepare").is_setup
    assert dag.get_task("prepare").build_pod_request_obj()


def test_a_function_that_cannot_be_sent_fails_with_the_reason(dag: DAG):
    outside = 1

    @kubernetes_task(image="python")
    def f() -> int:
        return outside

    f()
    with pytest.raises(ManifestError, match=r"variables of the function around it \(outside\)"):
        dag.get_task("f").build_pod_request_obj()


# -- @task.kubernetes_cmd_async


def command_task(dag: DAG, returned: object, **parameters: Any) -> Any:
    def command() -> object:
        return returned

    kubernetes_cmd_task(image="busybox", **parameters)(command)()
    return dag.get_task("command")


WRONG_COMMANDS = {
    "a string": ("echo 1", TypeError, "must return a list of strings"),
    "nothing": (None, TypeError, "must return a list of strings"),
    "numbers": ([1, 2], TypeError, "must return a list of strings"),
    "an empty list": ([], ValueError, "is not a command"),
}


@pytest.mark.parametrize(("returned", "error", "reason"), WRONG_COMMANDS.values(), ids=WRONG_COMMANDS)
def test_a_return_value_that_is_not_a_command_fails_before_a_pod_is_created(
    dag: DAG, returned: object, error: type, reason: str
):
    with pytest.raises(error, match=reason):
        command_task(dag, returned).execute(EMPTY)


@pytest.mark.parametrize("given", ["cmds", "arguments"])
def test_a_command_beside_the_function_is_ignored_with_a_warning(dag: DAG, given: str):
    with pytest.warns(UserWarning, match=f"ignores {given}"):
        operator = command_task(dag, ["true"], **{given: ["sh"]})
    assert not getattr(operator, given)


def test_the_command_task_keeps_all_templates(dag: DAG):
    operator = command_task(dag, ["true"])
    assert set(operator.template_fields) == {"op_args", "op_kwargs", *KubernetesPodOperator.template_fields}
    assert operator.overwrite_rtif_after_execution
