"""Run the DAG `everywhere` in a whole Airflow, and check each of its tasks."""

from __future__ import annotations

from collections.abc import Collection

from kpo_async.demo.airflow import DagRun, TaskInstance
from tests.deployments.airflow import Deployment, WholeAirflow

RESULTS = {"deferred": 1, "waited": 2, "decorated": 3, "ended": 4, "workerless": 5, "mapped[0]": 7, "mapped[1]": 8}
STATES = {**dict.fromkeys(RESULTS, "success"), "classic": "success", "failing": "failed", "killed": "failed"}
TIMEOUT = 240.0


def run_everywhere(
    whole: WholeAirflow[Deployment], dag_id: str = "everywhere", unseen: Collection[str] = ()
) -> tuple[DagRun, dict[str, TaskInstance]]:
    """Run the DAG, end the task `killed` as a user, and check states, results, logs on the tasks' pages, and pods.

    `unseen`: the tasks whose log a finished task's page cannot show here. Return the run and its task instances.
    """
    airflow = whole.airflow
    run = whole.start(dag_id)
    whole.until("the task to kill to be deferred", lambda: state_of_killed(whole, run) == "deferred", TIMEOUT)
    killed = next(task for task in airflow.task_instances(run) if task.task_id == "killed")
    whole.until("the line of its pod", lambda: said("killed") in page(whole, run, killed))
    whole.wait(airflow.set_state(run, killed, "failed"))
    whole.wait(airflow.finished(run, TIMEOUT))
    assert states(whole, run) == STATES, whole.failures(run)
    tasks = {str(task): task for task in airflow.task_instances(run)}
    results = {name: airflow.xcom(run, tasks[name].task_id, map_index=tasks[name].map_index) for name in RESULTS}
    assert results == RESULTS
    assert airflow.xcom(run, "failing") == 6
    for name in STATES.keys() - set(unseen) - {"killed"}:
        shown = page(whole, run, tasks[name])
        assert shown.count(said(name)) == 1, (name, shown)
    assert "exit code 3" in "\n".join(page(whole, run, tasks["failing"]))
    whole.until("the killed task's pod to go", lambda: not whole.pods(), timeout=40)
    return run, tasks


def states(whole: WholeAirflow[Deployment], run: DagRun) -> dict[str, str | None]:
    return {str(task): task.state for task in whole.airflow.task_instances(run)}


def state_of_killed(whole: WholeAirflow[Deployment], run: DagRun) -> str | None:
    assert whole.airflow.run_state(run) != "failed", whole.failures(run)
    return states(whole, run).get("killed")


def said(name: str) -> str:
    """Return the line that the task's pod prints, as it is in the log."""
    return f"[base] this is {name.replace('[', ' ').rstrip(']')}"


def page(whole: WholeAirflow[Deployment], run: DagRun, task: TaskInstance) -> list[str]:
    """Return the lines of the log that the task's page shows."""
    return "\n".join(whole.wait(whole.airflow.shown_log(run, task))).split("\n")


def imports_of_tasks(whole: WholeAirflow[Deployment]) -> list[str]:
    """Run the DAG `imports`, and return the packages of which a task's process imported modules: one line for each."""
    run = whole.run("imports")
    (task,) = whole.airflow.task_instances(run)
    assert task.state == "success", whole.failures(run)
    found = [line.partition("Imported by this process: ")[2] for line in whole.log(run, task)]
    return [line for line in found if line]
