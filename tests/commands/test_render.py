"""`render` prints the manifest of a task's pod as it would be created."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.commands.conftest import CommandLine

DAG = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from kpo_async import KubernetesPodOperator

with DAG("etl", params={"size": 3}):
    first = KubernetesPodOperator(task_id="first", image="busybox:1.36", do_xcom_push=True)
    KubernetesPodOperator(
        task_id="load",
        namespace="pods",
        image="busybox:1.36",
        cmds=["load", "{{ ds }}", "{{ run_id }}", "{{ params.size }}", "{{ ti.xcom_pull('first') }}"],
        env_vars={"DAY": "{{ ds }}"},
    )
    KubernetesPodOperator.partial(task_id="each", image="busybox:1.36").expand(cmds=[["a"], ["b"]])
    EmptyOperator(task_id="nothing")
"""


@pytest.fixture
def dag_file(tmp_path: Path) -> Path:
    path = tmp_path / "etl.py"
    path.write_text(DAG)
    return path


@pytest.fixture
def broken_file(tmp_path: Path) -> Path:
    path = tmp_path / "broken.py"
    path.write_text("import none_such")
    return path


async def test_the_manifest_has_rendered_templates_and_hides_environment_values(
    command_line: CommandLine, dag_file: Path
) -> None:
    printed = await command_line("render", dag_file, "load", "--logical-date", "2026-01-02", "--run-id", "mine")
    assert (printed.code, printed.err) == (0, "")
    pod = yaml.safe_load(printed.out)
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["load", "2026-01-02", "mine", "3", "<XCom return_value of first>"]
    assert container["env"] == [{"name": "DAY", "value": "***"}]
    assert (pod["metadata"]["namespace"], pod["metadata"]["labels"]["dag_id"]) == ("pods", "etl")
    words = ("load", "--logical-date", "2026-01-02", "--show-env", "-o", "json")
    shown = await command_line("render", dag_file, *words)
    assert shown.json["spec"]["containers"][0]["env"] == [{"name": "DAY", "value": "2026-01-02"}]


async def test_an_instance_of_a_mapped_task_is_chosen_by_its_index(command_line: CommandLine, dag_file: Path) -> None:
    printed = await command_line("render", dag_file, "etl.each", "--map-index", "1")
    assert (printed.code, printed.err) == (0, "")
    assert yaml.safe_load(printed.out)["spec"]["containers"][0]["command"] == ["b"]
    refused = await command_line("render", dag_file, "each")
    assert (refused.code, "--map-index" in refused.sentence) == (2, True)


async def test_what_has_no_manifest_is_one_sentence(command_line: CommandLine, dag_file: Path) -> None:
    unknown = await command_line("render", dag_file, "other")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.sentence.endswith("has no task 'other': it has etl.each, etl.first, etl.load, etl.nothing")
    foreign = await command_line("render", dag_file, "nothing")
    assert (foreign.code, "creates no pod of this package" in foreign.sentence) == (2, True)
    missing = await command_line("render", dag_file.with_name("none.py"), "load")
    assert (missing.code, "is not a file" in missing.sentence) == (2, True)


async def test_a_file_that_cannot_be_imported_is_one_sentence(command_line: CommandLine, broken_file: Path) -> None:
    broken = await command_line("render", broken_file, "load")
    assert (broken.code, "No module named 'none_such'" in broken.sentence) == (2, True)
