"""The example DAGs do what they say, in a real Airflow."""

from __future__ import annotations

import pytest

from kpo_async.demo.airflow import DagRun
from tests.whole_airflow.conftest import EXAMPLES, WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def log_of(whole: WholeAirflow, run: DagRun, task_id: str) -> list[str]:
    task = next(task for task in whole.airflow.task_instances(run) if task.task_id == task_id)
    return whole.log(run, task)


def test_the_first_pod_hands_its_answer_to_the_next_task(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("first_pod")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "show") == 42
    assert any("hello from" in line for line in log_of(whole_airflow, run, "hello"))


def test_the_fan_out_adds_up_the_squares_of_all_pods(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("fan_out", {"pods": 20, "seconds": 2})
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "add_up") == sum(n * n for n in range(1, 21))


def test_the_same_pod_logs_the_same_in_the_triggerer_and_in_a_worker(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("side_by_side")
    assert whole_airflow.failures(run) == {}
    lines = {
        task.task_id: [line for line in whole_airflow.log(run, task) if "line " in line]
        for task in whole_airflow.airflow.task_instances(run)
    }
    assert len(lines["in_a_worker"]) == 5
    assert lines["in_the_triggerer"] == lines["in_a_worker"]


def test_tasks_without_a_worker_add_up(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("without_a_worker")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "add_up") == sum(n**3 for n in range(1, 6))


def test_xcoms_of_each_size_arrive_whole(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("xcoms")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "measure") == [100, 100_000, 1_000_000]


def test_a_companion_finishes_its_work_after_the_base_container(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("sidecars")
    assert whole_airflow.failures(run) == {}
    assert any("uploaded the report" in line for line in log_of(whole_airflow, run, "work"))


def test_a_pod_that_is_taken_away_is_created_again_within_its_try(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.start("disruptions", {"seconds": 10})

    def follows_a_pod() -> bool:
        return bool(whole_airflow.airflow.task_states(run)["deferred"]) and bool(whole_airflow.pods())

    whole_airflow.until("a pod to run", follows_a_pod)
    (name,) = whole_airflow.pods()
    whole_airflow.delete_pod(name)
    assert whole_airflow.wait(whole_airflow.airflow.finished(run, 180)) == "success"
    (task,) = whole_airflow.airflow.task_instances(run)
    assert task.try_number == 1
    assert sum("attempt on" in line for line in whole_airflow.log(run, task)) >= 1


def test_callbacks_are_called_and_a_failure_is_explained(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("callbacks")
    assert list(whole_airflow.failures(run)) == ["bad"]
    good = "\n".join(log_of(whole_airflow, run, "good"))
    for said in ("created good-", "completed good-", "progress: 100 percent"):
        assert said in good
    assert any("failed with ExitCode 3" in line for line in log_of(whole_airflow, run, "bad"))


def test_templates_meet_parameters_results_and_the_pod_template(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("templates", {"greeting": "good"})
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "greet") == "good world in eu on templates"


def test_decorated_functions_and_commands_run_in_pods(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("decorators")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "shout") == "49!"


def test_tasks_of_one_dag_run_on_several_clusters(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("several_clusters")
    assert whole_airflow.failures(run) == {}
    assert whole_airflow.airflow.xcom(run, "on_kubernetes_default") == "done"
    assert whole_airflow.airflow.xcom(run, "on_research") == "done"


def test_every_example_has_a_test() -> None:
    with open(__file__, encoding="utf-8") as file:
        tests = file.read()
    assert [path.stem for path in EXAMPLES.glob("*.py") if f'("{path.stem}"' not in tests] == []
