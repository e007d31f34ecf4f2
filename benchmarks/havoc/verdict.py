"""What Airflow says at the end, compared with what was planned and what the witness saw."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from havoc.havoc import Havoc
from havoc.plan import Planned
from havoc.witness import Seen, Witness
from kpo_async.demo.airflow import TaskInstance
from tests.deployments.airflow import Deployment
from tests.deployments.repeats import unannounced_repeats

LINE = re.compile(r"\] (\S+) counts (\d+)$", re.MULTILINE)


@dataclass
class Verdict:
    """The promises, each with what broke it. `notes` is what is counted without being a promise."""

    wrong_verdicts: list[str] = field(default_factory=list)
    left_pods: list[str] = field(default_factory=list)
    doubled_tries: list[str] = field(default_factory=list)
    lost_xcoms: list[str] = field(default_factory=list)
    lost_lines: list[str] = field(default_factory=list)
    repeated_lines: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def promises(self) -> dict[str, list[str]]:
        """Return what broke each promise, by the words of the table."""
        return {
            "wrong verdicts": self.wrong_verdicts,
            "pods left whose task is over": self.left_pods,
            "tries with two pods": self.doubled_tries,
            "lost XComs": self.lost_xcoms,
            "tasks with lost log lines": self.lost_lines,
            "tries with unannounced repeated lines": self.repeated_lines,
            "pods that the shared watch showed wrongly": self.differences,
        }


def judge(airflow: Deployment, plans: list[Planned], havoc: Havoc, witness: Witness, left: list[str]) -> Verdict:
    """Judge all runs, which have ended; `left`: the names of the pods that are still there."""
    verdict = Verdict(left_pods=left, differences=witness.differences)
    verdict.doubled_tries = [f"{owner}: {', '.join(names)}" for owner, names in witness.made_twice().items()]
    tries = _tries(airflow)
    for plan in plans:
        key = (plan.run.run_id, plan.task_id)
        (task,) = (task for task in airflow.task_instances(plan.run) if task.task_id == plan.task_id)
        expected = havoc.marked.get(key, plan.state)
        if task.state != expected:
            verdict.wrong_verdicts.append(f"{_name(plan)} is {task.state}, not {expected}")
        for id_, number, state in tries[key]:
            if id_ in havoc.excused:
                continue
            if wrong := _judge_try(plan, state, witness.of_try(id_), verdict.notes):
                error = airflow.error(plan.run, task, number)[:200]
                verdict.wrong_verdicts.append(f"{_name(plan)} try {number}: {wrong}; its log's last error: {error}")
        if key not in havoc.marked:
            _judge_output(airflow, plan, task, witness.of_try(tries[key][-1][0]), verdict)
    return verdict


def _judge_try(plan: Planned, state: str, pods: list[Seen], notes: Counter[str]) -> str | None:
    """Return what is wrong with a try's end, as the pod's end shows; None if nothing is.

    A pod may be deleted while the witness has no watch. Then it ended as planned, or it was deleted before it ended.
    """
    if not pods:
        notes[f"tries {state} without a pod"] += 1
        return "success without a pod" if state == "success" else None
    if pods[-1].disrupted:
        notes["tries that ended with a deleted or evicted pod"] += 1
    elif pods[-1].exit_code is None:
        notes["tries whose pod's end the witness missed"] += 1
        return None if state == plan.state else f"{state}, but pod {pods[-1].name} was to end in {plan.state}"
    elif (state == "success") != (pods[-1].exit_code == 0):
        return f"{state}, but pod {pods[-1].name} exited with {pods[-1].exit_code}"
    return None


def _judge_output(airflow: Deployment, plan: Planned, task: TaskInstance, pods: list[Seen], verdict: Verdict) -> None:
    """Look for the XCom and the log lines of the pod that decided."""
    if task.state == "success":
        try:
            result = airflow.xcom(plan.run, plan.task_id)
        except LookupError:
            result = None
        if result != plan.result:
            verdict.lost_xcoms.append(f"{_name(plan)} has {result}, not {plan.result}")
    shown: set[tuple[str, int]] = set()
    for number in range(1, task.try_number + 1):
        log = [str(record.get("event")) for record in airflow.logs(plan.run, task, number)]
        shown |= {(pod, int(line)) for pod, line in LINE.findall("\n".join(log))}
        if repeated := unannounced_repeats(log, LINE):
            verdict.repeated_lines.append(f"{_name(plan)} try {number}: {len(repeated)}, {repeated[0]} the first")
    ended = [pod for pod in pods if pod.exit_code is not None and not pod.disrupted]
    for pod in ended[-1:]:
        missing = [line for line in range(1, plan.lines + 1) if (pod.name, line) not in shown]
        if missing and pod.exit_code in (0, 3):
            verdict.lost_lines.append(f"{_name(plan)} lacks {len(missing)} of {plan.lines}, {missing[0]} the first")


def _tries(airflow: Deployment) -> dict[tuple[str, str], list[tuple[str, int, str]]]:
    """Return the tries of each task as (id of the task instance, number, state), the last one last."""
    columns = "run_id, task_id, try_number, state"
    rows = airflow.query(f"SELECT task_instance_id, {columns} FROM task_instance_history ORDER BY try_number")
    rows += airflow.query(f"SELECT id, {columns} FROM task_instance")
    tries: dict[tuple[str, str], list[tuple[str, int, str]]] = {}
    for id_, run_id, task_id, number, state in rows:
        tries.setdefault((run_id, task_id), []).append((str(id_), number, state))
    return tries


def _name(plan: Planned) -> str:
    return f"{plan.run.run_id} {plan.task_id}"
