"""Templates in a DAG with `render_template_as_native_obj=True`: text stays text, lists and objects stay native."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions._internal.templater import SandboxedEnvironment
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.json_types import Json
from kpo_async.operators import rendering
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.pod_task import pod_task_of

TRY: Any = {"ti": SimpleNamespace(id="id", dag_id="dag", task_id="task", run_id="run", try_number=1, map_index=-1)}
TRAPS = ["3.10", "00", "1e3", "1_000", "007", "True", "None", '{"a": 1}', "[1, 2]", "'quoted'", "0x10", "1,2", "", "ü"]


def rendered(native: bool, value: Any, **parameters: Any) -> KubernetesPodOperator:
    """The operator after Airflow has rendered it, with `value` in `params.value`."""
    with DAG("rendering", schedule=None, render_template_as_native_obj=native):
        operator = KubernetesPodOperator(task_id="t", **parameters)
    operator.render_template_fields({"params": {"value": value}})  # type: ignore[typeddict-item]
    return operator


def manifest(operator: KubernetesPodOperator) -> Json:
    built = operator.build_pod_request_obj()
    built["metadata"].pop("name")  # its suffix is random
    return built


TEXTS: Json = {
    "image": "repository:{{ params.value }}",
    "cmds": ["{{ params.value }}", "a {{ params.value }}"],
    "arguments": ("{{ params.value }}", "{{ params.value }}b"),
    "env_vars": {"A": "{{ params.value }}", "B": "{{ params.value }}{{ params.value }}"},
    "annotations": {"a": "{{ params.value }}"},
    "configmaps": ["{{ params.value }}"],
    "container_resources": {"limits": {"cpu": "{{ params.value }}"}},
    "volumes": [{"name": "v", "persistent_volume_claim": {"claim_name": "{{ params.value }}"}}],
    "volume_mounts": [{"name": "v", "mountPath": "{{ params.value }}", "readOnly": True}],
    "env_from": [{"prefix": "{{ params.value }}", "secretRef": {"name": "{{ params.value }}"}}],
    "pod_template_dict": {"spec": {"containers": [{"name": "x", "workingDir": "{{ params.value }}"}]}},
}


@given(st.one_of(st.sampled_from(TRAPS), st.text()))
def test_text_is_rendered_as_without_native_objects(value: str) -> None:
    assert manifest(rendered(True, value, **TEXTS)) == manifest(rendered(False, value, **TEXTS))


@pytest.mark.parametrize("value", TRAPS)
def test_a_parameter_that_is_one_text_is_not_evaluated(value: str) -> None:
    names = ("image", "namespace", "hostname", "base_container_name", "config_file")
    operator = rendered(True, value, **dict.fromkeys(names, "{{ params.value }}"))
    assert [getattr(operator, name) for name in names] == [value] * len(names)


@pytest.mark.parametrize("value", TRAPS)
def test_text_in_models_is_not_evaluated(value: str) -> None:
    k8s = pytest.importorskip("kubernetes.client")
    claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name="{{ params.value }}")
    operator = rendered(
        True,
        value,
        env_vars=[k8s.V1EnvVar(name="A", value="{{ params.value }}")],
        volumes=[k8s.V1Volume(name="v", persistent_volume_claim=claim)],
        container_resources=k8s.V1ResourceRequirements(limits={"cpu": "{{ params.value }}"}),
    )
    assert operator.env_vars == [{"name": "A", "value": value}]
    assert operator.volumes == [{"name": "v", "persistentVolumeClaim": {"claimName": value}}]
    assert operator.container_resources == {"limits": {"cpu": value}}


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("arguments", ["3.10", "x"]),
        ("env_vars", {"A": "3.10"}),
        ("labels", {"a": "00"}),
        ("volumes", [{"name": "v", "emptyDir": {}}]),
        ("container_resources", {"limits": {"cpu": "1"}}),
        ("pod_template_dict", {"spec": {"containers": [{"name": "x"}]}}),
    ],
)
def test_a_parameter_given_as_one_template_stays_native(parameter: str, value: Any) -> None:
    assert getattr(rendered(True, value, **{parameter: "{{ params.value }}"}), parameter) == value


def test_an_item_that_is_an_object_stays_native() -> None:
    volume = {"name": "v", "emptyDir": {}}
    assert rendered(True, volume, volumes=["{{ params.value }}"]).volumes == [volume]


def test_numbers_and_booleans_of_kubernetes_stay_native() -> None:
    volume = {"name": "v", "configMap": {"name": "{{ 420 }}", "default_mode": "{{ 420 }}", "optional": "{{ true }}"}}
    probe = {"containers": [{"name": "x", "livenessProbe": {"httpGet": {"port": "{{ 80 }}"}}}]}
    operator = rendered(True, None, volumes=[volume], pod_template_dict={"spec": probe})
    assert operator.volumes == [{"name": "v", "configMap": {"name": "420", "default_mode": 420, "optional": True}}]
    assert operator.pod_template_dict["spec"]["containers"][0]["livenessProbe"] == {"httpGet": {"port": 80}}


def test_a_text_that_is_none_stays_none() -> None:
    operator = rendered(True, None, namespace="{{ params.value }}", env_vars={"A": "{{ params.value }}"})
    assert (operator.namespace, manifest(operator)["spec"]["containers"][0]["env"]) == (None, [{"name": "A"}])


def test_an_error_in_a_template_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        rendered(True, None, arguments=["{{ 1 / 0 }}"])


class Accessor:
    """Stands for Airflow's, which answers any name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(password=f"{self.kind} {name}")

    def get(self, name: str, default: Any = None) -> Any:
        return default if name == "missing" else f"{self.kind} {name}"


def test_connections_and_variables_that_templates_read_are_sent_to_the_trigger_by_name() -> None:
    operator = KubernetesPodOperator(
        task_id="task",
        env_vars={"A": "{{ conn.first.password }}", "B": "{{ conn.get('missing', 'no') }}"},
        arguments=["{{ var.value.third.password }}", "{{ var.json.get('fourth') }}", "{{ ds }}"],
        volumes=[{"name": "v", "hostPath": {"path": "/{{ var.value.get('fifth') }}"}}],
    )
    var = {"value": Accessor("value"), "json": Accessor("json")}
    operator.render_template_fields({"conn": Accessor("conn"), "var": var, "ds": "2026-01-02"})  # type: ignore[typeddict-item]
    pod = {"metadata": {"name": "pod", "namespace": "jobs", "uid": "uid"}}
    task = pod_task_of(operator, TRY, pod, deadline=None)
    assert operator.env_vars == [{"name": "A", "value": "conn first"}, {"name": "B", "value": "no"}]
    assert operator.arguments == ["value third", "json fourth", "2026-01-02"]
    assert task.masked_connections == ["first", "missing"]
    assert task.masked_variables == ["fifth", "fourth", "third"]
    assert "conn first" not in str(task.to_dict())


def test_an_operator_without_templates_sends_no_names() -> None:
    operator = KubernetesPodOperator(task_id="task")
    pod = {"metadata": {"name": "pod", "namespace": "jobs", "uid": "uid"}}
    for context in (None, {}):
        if context is not None:
            operator.render_template_fields(context)  # type: ignore[arg-type]
        task = pod_task_of(operator, TRY, pod, deadline=None)
        assert (task.masked_connections, task.masked_variables) == ([], [])


ENVIRONMENTS = {
    "Airflow's": {},
    "other delimiters": {"variable_start_string": "<<", "variable_end_string": ">>"},
    "other comments": {"comment_start_string": "%%", "comment_end_string": "%%"},
    "statements in lines": {"line_statement_prefix": "$"},
    "an extension": {"extensions": ["jinja2.ext.do", "jinja2.ext.loopcontrols"]},
    "line feeds": {"keep_trailing_newline": True},
}
PIECES = st.sampled_from(["<<", ">>", "%%", "$", "$ if x", "{", "{{ 1 }}", "{#", "#}", "\n", "\r", "a", " ", "ü"])


@pytest.mark.parametrize("options", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
@given(pieces=st.lists(PIECES, max_size=4))
def test_text_that_is_not_compiled_as_a_template_would_be_rendered_to_itself(
    options: dict[str, Any], pieces: list[str]
) -> None:
    environment = SandboxedEnvironment(**{"extensions": ["jinja2.ext.do"], **options})
    text = "".join(pieces)
    if rendering.is_plain(text, environment):
        assert environment.from_string(text).render() == text


def test_text_without_a_template_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    from_string = SandboxedEnvironment.from_string
    monkeypatch.setattr(
        SandboxedEnvironment, "from_string", lambda self, text: compiled.append(text) or from_string(self, text)
    )
    operator = rendered(False, "3", image="busybox:1.36", arguments=["echo", "{{ params.value }}"])
    assert (operator.image, operator.arguments) == ("busybox:1.36", ["echo", "3"])
    assert compiled == ["{{ params.value }}"]


def test_a_name_of_a_file_with_a_template_is_rendered_as_the_file(tmp_path: Path) -> None:
    class FromFiles(KubernetesPodOperator):
        template_ext = (".sh",)

    (tmp_path / "script.sh").write_text("echo {{ params.value }}")
    with DAG("rendering", schedule=None, template_searchpath=str(tmp_path)):
        operator = FromFiles(task_id="t", arguments=["script.sh"])
    operator.render_template_fields({"params": {"value": "3"}})  # type: ignore[typeddict-item]
    assert operator.arguments == ["echo 3"]
