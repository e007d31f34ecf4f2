"""What Airflow's database knows about a task whose pod is gone: its state, its XComs about the pod, and its log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from kpo_async.commands.command import UnableError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

POD_NAME, POD_NAMESPACE, DIAGNOSIS = "pod_name", "pod_namespace", "pod_diagnosis"


@dataclass(frozen=True)
class TaskName:
    """A task instance."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1

    def __str__(self) -> str:
        """Return such as `etl.load[3] of run manual__2026`."""
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"{self.dag_id}.{self.task_id}{index} of run {self.run_id}"


@dataclass(frozen=True)
class Story:
    """The last that is known of a task and its pod."""

    task: TaskName
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    pod: str | None
    """`namespace/name`, None if the task has not had one."""
    diagnosis: dict[str, Any] | None
    """The XCom `pod_diagnosis`."""


@contextmanager
def reading_database() -> Iterator[None]:
    """Raise `UnableError` for what the database raises."""
    try:
        yield
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
        raise UnableError(
            f"Airflow's database cannot be read ({type(error).__name__}: {reason}): run this where a scheduler or a "
            "triggerer runs, with its configuration, or give --kubeconfig and --namespace"
        ) from error


def story_of_task(task: TaskName) -> Story:
    """Return the story of a task instance. Blocks. Raises `UnableError`, which says what of it is unknown."""
    from airflow.utils.session import create_session

    with reading_database(), create_session() as session:
        return _story(session, task)


def story_of_pod(name: str) -> Story | None:
    """Return the story of the task that had a pod of this name last, None if there is none. Blocks."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with reading_database(), create_session() as session:
        query = (
            select(XComModel.dag_id, XComModel.task_id, XComModel.run_id, XComModel.map_index)
            .where(XComModel.key == POD_NAME, XComModel.value.in_((name, json.dumps(name))))
            .order_by(XComModel.timestamp.desc())
            .limit(1)
        )
        found = session.execute(query).first()
        return None if found is None else _story(session, TaskName(*found))


def log_lines(story: Story, try_number: int | None) -> Iterator[str]:
    """Yield the lines of the task's log as Airflow's page shows them. Blocks."""
    from airflow.utils.log.log_reader import TaskLogReader
    from airflow.utils.session import create_session

    with reading_database(), create_session() as session:
        instance, metadata = _instance(session, story.task), cast(Any, {})
        for record in TaskLogReader().read_log_stream(instance, try_number or story.try_number, metadata):
            yield from str(json.loads(record).get("event", "")).splitlines() or [""]


def _story(session: Session, task: TaskName) -> Story:
    instance = _instance(session, task)
    xcoms = _xcoms(session, task)
    name, namespace, diagnosis = (xcoms.get(key) for key in (POD_NAME, POD_NAMESPACE, DIAGNOSIS))
    return Story(
        task=task,
        state=None if instance.state is None else str(getattr(instance.state, "value", instance.state)),
        try_number=instance.try_number,
        started_at=instance.start_date,
        ended_at=instance.end_date,
        pod=None if name is None else f"{namespace or '?'}/{name}",
        diagnosis=diagnosis if isinstance(diagnosis, dict) else None,
    )


def _instance(session: Session, task: TaskName) -> Any:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance as TI

    in_run = (TI.dag_id == task.dag_id, TI.run_id == task.run_id)
    of_task = (*in_run, TI.task_id == task.task_id)
    found = session.scalar(select(TI).where(*of_task, TI.map_index == task.map_index))
    if found is not None:
        return found
    if session.scalar(select(DagRun.dag_id).where(DagRun.dag_id == task.dag_id).limit(1)) is None:
        raise UnableError(f"DAG {task.dag_id!r} has no runs in this Airflow: `airflow dags list` shows its DAGs")
    if session.scalar(select(TI.run_id).where(*in_run).limit(1)) is None:
        raise UnableError(
            f"DAG {task.dag_id!r} has no run {task.run_id!r}: `airflow dags list-runs {task.dag_id}` shows its runs"
        )
    if indexes := session.scalars(select(TI.map_index).where(*of_task)).all():
        known = f"those of run {task.run_id!r} are {min(indexes)} to {max(indexes)}"
        given = f"has no map index {task.map_index}" if task.map_index >= 0 else "is mapped: give --map-index"
        raise UnableError(f"task {task.task_id!r} {given}; {known}")
    raise UnableError(
        f"DAG {task.dag_id!r} has no task {task.task_id!r} in run {task.run_id!r}: "
        f"`airflow tasks states-for-dag-run {task.dag_id} {task.run_id}` shows its tasks"
    )


def _xcoms(session: Session, task: TaskName) -> dict[str, Any]:
    from airflow.models.xcom import XComModel as XCom

    query = select(XCom.key, XCom.value).where(
        XCom.dag_id == task.dag_id,
        XCom.task_id == task.task_id,
        XCom.run_id == task.run_id,
        XCom.map_index == task.map_index,
        XCom.key.in_((POD_NAME, POD_NAMESPACE, DIAGNOSIS)),
    )
    return {key: _value(value) for key, value in session.execute(query)}


def _value(stored: Any) -> Any:
    """Return an XCom's value: the column holds JSON, or JSON text of it."""
    if not isinstance(stored, str):
        return stored
    try:
        return json.loads(stored)
    except ValueError:
        return stored
