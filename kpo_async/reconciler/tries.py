"""Ask Airflow's database about the tries that own pods.

A task instance has a new id with each try (`TaskInstance.prepare_db_for_next_try`); the history has the ids of earlier
ones. Clearing a task raises its `max_tries`, a retry does not (`clear_task_instances`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.utils.session import create_session
from sqlalchemy import and_, select

from kpo_async.reconciler.verdict import Try, TryStatus

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

CHUNK = 500
"""Ids in one query."""
ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


def read_tries(ids: Collection[str]) -> dict[str, Try]:
    """Return the tries with these task instance ids. Blocks; raises SQLAlchemy's errors."""
    found: dict[str, Try] = {}
    with create_session() as session:
        for chunk in _chunks(ids):
            current = _current(session, chunk)
            found.update(current)
            found.update(_earlier(session, [id for id in chunk if id not in current]))
    return found


def _current(session: Session, ids: Iterable[str]) -> dict[str, Try]:
    query = select(TaskInstance.id, TaskInstance.state, TaskInstance.start_date).where(TaskInstance.id.in_(_keys(ids)))
    return {
        str(id): Try(TryStatus.ENDED if state in ENDED_STATES else TryStatus.ALIVE, _text(state), started_at)
        for id, state, started_at in session.execute(query)
    }


def _earlier(session: Session, ids: Collection[str]) -> dict[str, Try]:
    """Return the tries that are not the current ones of their task instances."""
    if not ids:
        return {}
    ti, history = TaskInstance, TaskInstanceHistory
    query = (
        select(history.task_instance_id, history.max_tries, ti.max_tries, ti.state, ti.start_date)
        .join(
            ti,
            and_(
                ti.dag_id == history.dag_id,
                ti.task_id == history.task_id,
                ti.run_id == history.run_id,
                ti.map_index == history.map_index,
            ),
        )
        .where(history.task_instance_id.in_(_keys(ids)))
    )
    found = {id: Try(TryStatus.GONE) for id in ids}
    for id, max_tries_then, max_tries_now, state, started_at in session.execute(query):
        found[str(id)] = Try(_status(max_tries_then, max_tries_now, state), _text(state), started_at)
    return found


def _status(max_tries_then: int | None, max_tries_now: int, state: str | None) -> TryStatus:
    if max_tries_then != max_tries_now:
        return TryStatus.CLEARED
    return TryStatus.ENDED if state in ENDED_STATES else TryStatus.RETRIED


def _keys(ids: Iterable[str]) -> list[Any]:
    """Return the ids as the column compares them: a string in Airflow 3.1, a UUID since."""
    return [UUID(id) for id in ids] if TaskInstance.id.type.python_type is UUID else list(ids)


def _text(state: Any) -> str | None:
    return None if state is None else str(getattr(state, "value", state))


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk
