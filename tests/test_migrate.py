"""`kpo-async migrate`: what a DAG file becomes, what is left and named, and what happens to files."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("libcst")

from kpo_async.migrate.command import Exit, add_arguments, run
from kpo_async.migrate.rewrite import rewrite

OLD = "airflow.providers.cncf.kubernetes"

CONVERTED = {
    "the operator": (
        f"from {OLD}.operators.pod import KubernetesPodOperator\n",
        "from kpo_async.operators.pod import KubernetesPodOperator\n",
    ),
    "under another name": (
        f"from {OLD}.operators.pod import KubernetesPodOperator as KPO  # noqa: X\n",
        "from kpo_async.operators.pod import KubernetesPodOperator as KPO  # noqa: X\n",
    ),
    "the operator's old module": (
        f"from {OLD}.operators.kubernetes_pod import KubernetesPodOperator\n",
        "from kpo_async.operators.pod import KubernetesPodOperator\n",
    ),
    "secrets": (f"from {OLD}.secret import Secret\n", "from kpo_async.secret import Secret\n"),
    "secrets of Airflow 2": ("from airflow.kubernetes.secret import Secret\n", "from kpo_async.secret import Secret\n"),
    "several names in parentheses": (
        f"from {OLD}.callbacks import (\n    ExecutionMode,  # mode\n    KubernetesPodOperatorCallback,\n)\n",
        "from kpo_async.callbacks import (\n    ExecutionMode,  # mode\n    KubernetesPodOperatorCallback,\n)\n",
    ),
    "enums": (
        f"from {OLD}.utils.pod_manager import OnFinishAction\n",
        "from kpo_async.pod_task import OnFinishAction\n",
    ),
    "names that the operator's module only imports": (
        f"from {OLD}.operators.pod import KubernetesPodOperator, KubernetesPodOperatorCallback, OnFinishAction\n",
        "from kpo_async.operators.pod import KubernetesPodOperator\n"
        "from kpo_async.callbacks import KubernetesPodOperatorCallback\n"
        "from kpo_async.pod_task import OnFinishAction\n",
    ),
    "a module with its name": (
        f"import {OLD}.operators.pod as kpo\n\nkpo.KubernetesPodOperator(task_id='x')\n",
        "import kpo_async.operators.pod as kpo\n\nkpo.KubernetesPodOperator(task_id='x')\n",
    ),
    "a module from its package": (
        f"from {OLD}.operators import pod\n\npod.KubernetesPodOperator(task_id='x')\n",
        "from kpo_async.operators import pod\n\npod.KubernetesPodOperator(task_id='x')\n",
    ),
    "an import within a function": (
        f"def f():\n\tfrom {OLD}.operators.pod import KubernetesPodOperator\n\treturn KubernetesPodOperator\n",
        "def f():\n\tfrom kpo_async.operators.pod import KubernetesPodOperator\n\treturn KubernetesPodOperator\n",
    ),
    "two statements on one line": (
        f"import os; from {OLD}.secret import Secret\n",
        "import os; from kpo_async.secret import Secret\n",
    ),
    "an import after a colon": (
        f"try: from {OLD}.secret import Secret; x = 1\nexcept ImportError: pass\n",
        "try: from kpo_async.secret import Secret; x = 1\nexcept ImportError: pass\n",
    ),
    "windows line ends": (
        f"from {OLD}.secret import Secret\r\nx = 1\r\n",
        "from kpo_async.secret import Secret\r\nx = 1\r\n",
    ),
    "nothing of the incumbent": (
        "from airflow.sdk import dag\n\ndef KubernetesPodOperator(): ...\n",
        "from airflow.sdk import dag\n\ndef KubernetesPodOperator(): ...\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CONVERTED.values(), ids=CONVERTED)
def test_imports_move_and_the_rest_does_not_change(before: str, after: str):
    result = rewrite(before.encode())
    assert (result.source.decode(), result.findings) == (after, ())


@pytest.mark.parametrize(("before", "after"), CONVERTED.values(), ids=CONVERTED)
def test_a_converted_file_does_not_change_again(before: str, after: str):
    assert rewrite(after.encode()).source.decode() == after


LEFT = {
    "a hook": (f"from {OLD}.hooks.kubernetes import KubernetesHook\n", 1, "KubernetesHook", "methods differ"),
    "a trigger": (
        f"\nfrom {OLD}.triggers.pod import KubernetesPodTrigger\n",
        2,
        "KubernetesPodTrigger",
        "not a public API",
    ),
    "a job": (f"from {OLD}.operators.job import KubernetesJobOperator\n", 1, "KubernetesJobOperator", "not part of"),
    "the pod generator": (f"from {OLD}.pod_generator import PodGenerator\n", 1, "PodGenerator", "full_pod_spec"),
    "a helper": (f"from {OLD}.kubernetes_helper_functions import x\n", 1, "functions.x", "not part of kpo_async"),
    "everything": (f"from {OLD}.operators.pod import *\n", 1, "import *", "name what is imported"),
    "a module in full": (f"import {OLD}.operators.pod\n", 1, f"import {OLD}.operators.pod", "import it as"),
    "a module of which more is used": (
        f"import {OLD}.callbacks as c\n\nc.ExecutionMode, c.client_type\n",
        1,
        "callbacks.client_type",
        "kpo_async.callbacks does not have this name",
    ),
    "an operator for GKE": (
        "from airflow.providers.google.cloud.operators.kubernetes_engine import GKEStartPodOperator\n",
        1,
        "GKEStartPodOperator",
        "cluster_hook=kpo_async.hooks.clouds.GkeCluster",
    ),
    "an operator for EKS": (
        "from airflow.providers.amazon.aws.operators.eks import EksPodOperator\n",
        1,
        "EksPodOperator",
        "cluster_hook=kpo_async.hooks.clouds.EksCluster",
    ),
    "an import path": (f"x = '{OLD}.operators.pod.KubernetesPodOperator'\n", 1, "Operator'", "may mean anything"),
    "an import path with a variable": (f"x = 1\ny = f'{OLD}.{{x}}.pod'\n", 2, OLD, "may mean anything"),
    "a package": (f"from {OLD} import operators\n", 1, f"{OLD}.operators", "migrate again"),
    "the package": (f"from {OLD.rpartition('.')[0]} import kubernetes\n", 1, OLD, "migrate again"),
    "a decorator": (
        "from airflow.sdk import task\n\n@task.kubernetes\ndef f(): ...\n",
        3,
        "@task.kubernetes",
        "--decorators",
    ),
}


@pytest.mark.parametrize(("source", "line", "what", "reason"), LEFT.values(), ids=LEFT)
def test_an_import_that_cannot_move_stays_and_is_reported_with_the_reason(
    source: str, line: int, what: str, reason: str
):
    result = rewrite(source.encode())
    (finding,) = result.findings
    assert result.source.decode() == source
    assert finding.line == line
    assert what in finding.what
    assert reason in finding.reason


def test_operators_of_other_providers_that_run_no_pods_are_not_reported():
    source = b"from airflow.providers.amazon.aws.operators.eks import EksCreateClusterOperator\n"
    assert rewrite(source).findings == ()


def test_a_line_that_imports_both_is_split_and_loses_no_comment():
    before = textwrap.dedent(
        f"""
        # of the pod
        from {OLD}.callbacks import (
            ExecutionMode,  # where it runs
            client_type,
        )  # noqa: F401
        """
    )
    after = textwrap.dedent(
        f"""
        # of the pod
        # where it runs
        from kpo_async.callbacks import ExecutionMode  # noqa: F401
        from {OLD}.callbacks import client_type
        """
    )
    result = rewrite(before.encode())
    assert result.source.decode() == after
    assert [finding.line for finding in result.findings] == [5]


def test_overrides_that_are_never_called_are_reported():
    source = textwrap.dedent(
        f"""
        from {OLD}.operators.pod import KubernetesPodOperator

        class Mine(KubernetesPodOperator):
            def build_pod_request_obj(self, context=None): ...
            def await_pod_completion(self, pod): ...

        class MineToo(Mine):
            def cleanup(self, pod, remote_pod): ...
        """
    )
    findings = rewrite(source.encode()).findings
    assert [(finding.line, finding.what) for finding in findings] == [
        (6, "Mine.await_pod_completion"),
        (9, "MineToo.cleanup"),
    ]


def test_missing_attributes_that_a_subclass_uses_are_reported():
    source = textwrap.dedent(
        f"""
        from {OLD}.operators.pod import KubernetesPodOperator

        class Mine(KubernetesPodOperator):
            def build_pod_request_obj(self, context=None):
                pod = super().build_pod_request_obj(context)
                print(self.pod_manager.read_pod(self.pod), self.name)
                return pod

        class Other:
            def execute(self, context):
                self.client.get()
        """
    )
    findings = rewrite(source.encode()).findings
    assert [(finding.line, finding.what) for finding in findings] == [
        (6, "Mine.build_pod_request_obj"),
        (7, "Mine: self.pod_manager"),
    ]


def test_uses_of_missing_methods_are_reported_wherever_an_operator_is_used():
    source = textwrap.dedent(
        f"""
        from {OLD}.operators.pod import KubernetesPodOperator

        class Mine(KubernetesPodOperator):
            def trigger_reentry(self, context, event):
                super().cleanup(self.pod, self.remote_pod)
                self._write_logs(self.pod)
                return super().trigger_reentry(context, event)

        task = KubernetesPodOperator(task_id="a")
        task.find_pod("default", context=None)
        mine = Mine(task_id="b")
        mine.pod_manager.read_pod(mine.pod)

        def on_failure(context):
            context["ti"].task.pod_manager.read_pod_events(context["ti"].task.pod)
            other.cleanup()
        """
    )
    findings = rewrite(source.encode()).findings
    assert [(finding.line, finding.what) for finding in findings] == [
        (6, "Mine: super().cleanup"),
        (7, "Mine: self._write_logs"),
        (11, "task.find_pod"),
        (13, "mine.pod_manager"),
        (16, 'context["ti"].task.pod_manager'),
    ]
    assert "use self.client" in findings[3].reason


def test_what_subclasses_may_do_is_not_reported():
    """Tests of the operator show that it works."""
    source = textwrap.dedent(
        f"""
        from {OLD}.operators.pod import KubernetesPodOperator

        class Mine(KubernetesPodOperator):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.callbacks.append(print)

            @property
            def image(self):
                return self._image

            @image.setter
            def image(self, value):
                self._image = value

            def execute(self, context):
                self.client.list_namespace()
                return self.execute_sync(context)

            def extract_xcom(self, pod):
                return super().extract_xcom(pod)

        def on_failure(context):
            print(context["ti"].task.pod.metadata.name)
        """
    )
    assert rewrite(source.encode()).findings == ()


def test_a_module_under_a_name_stays_if_its_names_move_to_several_places():
    source = f"import {OLD}.operators.pod as kpo\nkpo.KubernetesPodOperator\nkpo.OnFinishAction\n".encode()
    result = rewrite(source)
    assert result.source == source
    assert [finding.what for finding in result.findings] == [f"{OLD}.operators.pod.OnFinishAction"]


DECORATED = {
    "plain": ("@task.kubernetes\n", "@task.kubernetes_async\n"),
    "with arguments": ("@task.kubernetes(image='x')\n", "@task.kubernetes_async(image='x')\n"),
    "a command": ("@task.kubernetes_cmd(image='x')\n", "@task.kubernetes_cmd_async(image='x')\n"),
    "another kind": ("@task.docker(image='x')\n", "@task.docker(image='x')\n"),
}


@pytest.mark.parametrize(("before", "after"), DECORATED.values(), ids=DECORATED)
@pytest.mark.parametrize("module", ["airflow.sdk", "airflow.decorators"])
def test_decorators_are_renamed_on_request(module: str, before: str, after: str):
    head, tail = f"from {module} import task\n\n", "def f(): ...\n"
    result = rewrite((head + before + tail).encode(), decorators=True)
    assert (result.source.decode(), result.findings) == (head + after + tail, ())


def test_a_decorator_of_an_unrelated_task_stays():
    source = b"from mine import task\n\n@task.kubernetes\ndef f(): ...\n"
    assert rewrite(source, decorators=True) == rewrite(source)


# -- files


def migrate(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    folder = tmp_path / "dags"
    (folder / "team" / ".venv").mkdir(parents=True)
    (folder / "team" / "a.py").write_text(f"from {OLD}.operators.pod import KubernetesPodOperator")
    (folder / "team" / ".venv" / "b.py").write_text(f"from {OLD}.secret import Secret\n")
    return folder


def test_nothing_is_written_without_the_option(dags: Path, capsys: pytest.CaptureFixture[str]):
    before = (dags / "team" / "a.py").read_bytes()
    assert migrate(dags) == Exit.DONE
    out, err = capsys.readouterr()
    assert (dags / "team" / "a.py").read_bytes() == before
    assert "+from kpo_async.operators.pod import KubernetesPodOperator\n\\ No newline at end of file\n" in out
    assert "1 file(s) would change" in err


def test_files_change_on_request_and_hidden_folders_do_not(dags: Path):
    assert migrate("--write", dags) == Exit.DONE
    assert (dags / "team" / "a.py").read_text() == "from kpo_async.operators.pod import KubernetesPodOperator"
    assert OLD in (dags / "team" / ".venv" / "b.py").read_text()


def test_leftovers_are_reported_by_file_and_line_and_in_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "dag.py"
    file.write_text(f"\nfrom {OLD}.hooks.kubernetes import KubernetesHook\n")
    assert migrate(file) == Exit.LEFTOVERS
    assert f"{file}:2: {OLD}.hooks.kubernetes.KubernetesHook: " in capsys.readouterr().err


def test_an_operator_without_a_replacement_is_reported_and_is_not_a_leftover(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "jobs.py"
    file.write_text(f"from {OLD}.operators.job import KubernetesDeleteJobOperator\n")
    assert migrate(file) == Exit.DONE
    assert "KubernetesDeleteJobOperator: is not part of kpo_async" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"kubernetes = {% if x %}\n", id="a template"),
        pytest.param(b"kubernetes = '\xff'\n", id="in another encoding than it declares"),
        pytest.param(b"# coding: of-our-own\nkubernetes = 1\n", id="in an unknown encoding"),
    ],
)
def test_a_file_that_is_not_valid_python_is_reported_and_does_not_change(
    text: bytes, dags: Path, capsys: pytest.CaptureFixture[str]
):
    file = dags / "dag.py"
    file.write_bytes(text)
    assert migrate(dags) == Exit.LEFTOVERS
    out, err = capsys.readouterr()
    assert re.search(re.escape(str(file)) + r"(:\d+)?: is not valid Python", err)
    assert "+from kpo_async" in out, "the other files are still shown"


def test_an_editors_lock_is_skipped(dags: Path):
    (dags / ".#dag.py").symlink_to("somebody@somewhere")
    assert migrate(dags) == Exit.DONE


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert migrate(tmp_path / "nowhere") == Exit.USAGE
    assert "No such file" in capsys.readouterr().err
