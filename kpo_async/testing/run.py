"""Run a DAG to its end: Airflow decides what runs next, tasks run in this process, triggers in the triggerer."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.models.dagbag import DBDagBag
from airflow.models.dagbundle import DagBundleModel
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.xcom import XComModel
from airflow.sdk import timezone
from airflow.sdk.execution_time.supervisor import run_task_in_process
from airflow.sdk.execution_time.xcom import XCom

# Airflow 3.1 defines `SerializedDAG` in this module, later versions import it there.
from airflow.serialization.serialized_objects import LazyDeserializedDAG, SerializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select

from kpo_async.hooks.sync import loop_is_running
from kpo_async.testing.airflow import TestAirflow

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk import DAG
    from sqlalchemy.orm import Session

BUNDLE = "kpo-async-testing"
POLL = 0.2
"""Seconds between two looks at the database while tasks are deferred."""

_lines: contextvars.ContextVar[list[tuple[float, str]] | None] = contextvars.ContextVar("lines", default=None)


@dataclass(frozen=True)
class TaskRun:
    """How one task instance ended."""

    state: str | None
    """`success`, `failed`, `skipped`, `upstream_failed`, ...; None for one that never ran."""
    tries: int
    xcoms: Mapping[str, Any]
    """What it pushed, by key."""
    log: list[str]
    """The lines of its log: those of this process, and those of the triggerer."""
    error: str = ""
    """The exception that ended its last try in this process, as text."""


@dataclass(frozen=True)
class Run:
    """How a DAG's run ended."""

    state: str
    """`success` or `failed`."""
    tasks: Mapping[str, TaskRun]
    """By task id; those of a mapped task by such as `train[0]`."""

    def __getitem__(self, task_id: str) -> TaskRun:
        return self.tasks[task_id]


@dataclass
class _Notes:
    """What this process knows of a task instance, besides the database."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    error: str = ""


def run(airflow: TestAirflow, dag: DAG, conf: dict[str, Any] | None, timeout: float) -> Run:
    """Run the DAG once.

    Raises `TimeoutError` if it has not ended after `timeout` seconds, `RuntimeError` in an event loop.
    """
    _refuse_event_loop()
    notes: dict[str, _Notes] = {}
    with create_session() as session, _capturing():
        dag_run = _create(dag, conf, session)
        for _ in _ticks(dag_run, timeout, session):
            for ti in _instances(dag_run, session):
                if ti.state == TaskInstanceState.SCHEDULED:
                    _work(ti, dag, notes.setdefault(_name(ti), _Notes()))
                elif ti.state == TaskInstanceState.DEFERRED:
                    airflow.ensure_triggerer()
        return _result(airflow, dag_run, notes, session)


def _refuse_event_loop() -> None:
    if loop_is_running():
        raise RuntimeError("run_dag blocks, so it cannot run in an event loop: write `def test_...`, not `async def`")


def _create(dag: DAG, conf: dict[str, Any] | None, session: Session) -> DagRun:
    """Store the DAG and a run of it."""
    session.merge(DagBundleModel(name=BUNDLE))
    session.flush()
    # The dag-processor sets it; a triggerer that ends a task wants to know it.
    dag.relative_fileloc = dag.relative_fileloc or Path(dag.fileloc).name
    lazy = LazyDeserializedDAG.from_dag(dag)
    SerializedDAG.bulk_write_to_db(BUNDLE, None, [lazy], session=session)
    SerializedDagModel.write_dag(lazy, bundle_name=BUNDLE, session=session)
    session.commit()
    stored = DBDagBag().get_latest_version_of_dag(dag.dag_id, session=session)
    assert stored is not None
    now = timezone.utcnow()
    dag_run = stored.create_dagrun(
        run_id=DagRunType.MANUAL.generate_run_id(suffix=now.isoformat()),
        logical_date=now,
        data_interval=(now, now),
        run_after=now,
        conf=conf,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        start_date=now,
        session=session,
    )
    dag_run.dag = stored
    session.commit()
    return dag_run


def _ticks(dag_run: DagRun, timeout: float, session: Session) -> Iterator[None]:
    """Yield whenever the scheduler has looked at the run, until it has ended."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        session.expire_all()
        schedulable, _ = dag_run.update_state(session=session)
        dag_run.schedule_tis(schedulable, session=session)
        session.commit()
        if dag_run.state in (DagRunState.SUCCESS, DagRunState.FAILED):
            return
        yield
        time.sleep(POLL)
    states = {_name(ti): str(ti.state) for ti in _instances(dag_run, session)}
    raise TimeoutError(f"DAG {dag_run.dag_id!r} has not ended after {timeout:.0f} s: {states}")


def _instances(dag_run: DagRun, session: Session) -> list[TaskInstance]:
    """Return the task instances as the database has them now."""
    session.expire_all()
    return sorted(dag_run.get_task_instances(session=session), key=lambda ti: (ti.task_id, ti.map_index))


def _work(ti: TaskInstance, dag: DAG, notes: _Notes) -> None:
    """Run a task in this process, as a worker does: from its start, or from the event of its trigger."""
    from airflow.sdk.api.datamodels._generated import TaskInstance as WorkersTaskInstance

    assert ti.dag_version_id is not None
    ti.set_state(TaskInstanceState.QUEUED)
    workers = WorkersTaskInstance(
        id=ti.id,
        dag_version_id=ti.dag_version_id,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        try_number=ti.try_number,
        map_index=ti.map_index,
    )
    token = _lines.set(notes.lines)
    try:
        ended = run_task_in_process(ti=workers, task=dag.task_dict[ti.task_id])
        notes.error = "" if ended.error is None else f"{type(ended.error).__name__}: {ended.error}"
    finally:
        _lines.reset(token)


def _result(airflow: TestAirflow, dag_run: DagRun, notes: Mapping[str, _Notes], session: Session) -> Run:
    tasks = {}
    for ti in _instances(dag_run, session):
        known = notes.get(_name(ti), _Notes())
        tasks[_name(ti)] = TaskRun(ti.state, ti.try_number, _xcoms(ti, session), _log(airflow, ti, known), known.error)
    return Run(str(dag_run.state), tasks)


def _xcoms(ti: TaskInstance, session: Session) -> dict[str, Any]:
    mine = select(XComModel).where(
        XComModel.dag_id == ti.dag_id,
        XComModel.run_id == ti.run_id,
        XComModel.task_id == ti.task_id,
        XComModel.map_index == ti.map_index,
    )
    return {row.key: _value(row) for row in session.scalars(mine)}


def _value(row: XComModel) -> Any:
    """Return the XCom as tasks get it: `XComModel.deserialize_value` takes the text "1" for JSON."""
    try:
        return XCom.deserialize_value(row)
    except Exception:  # a class that Airflow does not allow, or that cannot be imported
        return row.value


def _log(airflow: TestAirflow, ti: TaskInstance, notes: _Notes) -> list[str]:
    folders = [f"dag_id={ti.dag_id}", f"run_id={ti.run_id}", f"task_id={ti.task_id}"]
    folders += [f"map_index={ti.map_index}"] if ti.map_index >= 0 else []
    lines = list(notes.lines)
    for record in airflow.log_records(*folders):
        lines.append((timezone.parse(str(record["timestamp"])).timestamp(), str(record.get("event"))))
    return [line for _, line in sorted(lines, key=lambda line: line[0])]


def _name(ti: TaskInstance) -> str:
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"


class _Capture(logging.Handler):
    """Keeps the log lines of the task that runs."""

    def emit(self, record: logging.LogRecord) -> None:
        if (lines := _lines.get()) is not None:
            lines.append((record.created, record.getMessage()))


@contextmanager
def _capturing() -> Iterator[None]:
    capture, root, ours = _Capture(logging.INFO), logging.getLogger(), logging.getLogger("kpo_async")
    level = ours.level
    root.addHandler(capture)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(capture)
        ours.setLevel(level)
