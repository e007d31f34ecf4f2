"""How many tasks had a pod in each minute of the last hour, from Airflow's database.

Tasks push their pod's name (XCom `pod_name`), and Airflow keeps when a task ran. So the hour is known even though no
page was open. The earlier tries of a task count, too; a task whose DAG run was deleted does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import and_, or_, select

MINUTES = 60


class Interval(msgspec.Struct, frozen=True):
    """One try of a task that has a pod. `ended_at` is None while it has not ended. Seconds since the epoch."""

    dag_id: str
    started_at: float
    ended_at: float | None
    state: str


class History(msgspec.Struct, frozen=True):
    """Numbers for each minute, the oldest first."""

    ends_at: float
    """The end of the last minute, in seconds since the epoch."""
    living: list[int]
    """Tries that had begun and not ended at the end of the minute."""
    succeeded: list[int]
    """Tries that ended well in it."""
    failed: list[int]


def read(now: datetime) -> list[Interval]:
    """Return the tries of the last hour. Blocks; raises SQLAlchemy's errors."""
    since = now - timedelta(minutes=MINUTES)
    with create_session() as session:
        return [
            Interval(dag_id, start.timestamp(), end.timestamp() if end else None, str(getattr(state, "value", state)))
            for table in (TaskInstance, TaskInstanceHistory)
            for dag_id, start, end, state in session.execute(_tries(table, since))
        ]


def count(tries: Iterable[Interval], now: datetime) -> History:
    """Return the numbers of each minute of the hour before `now`."""
    end = now.timestamp()
    begin = end - 60 * MINUTES
    living, ended = [0] * MINUTES, {"success": Counter[int](), "failed": Counter[int]()}
    for one in tries:
        first = max(0, int((one.started_at - begin) // 60))
        last = MINUTES if one.ended_at is None else int((one.ended_at - begin) // 60)
        for minute in range(first, min(last, MINUTES)):
            living[minute] += 1
        if one.ended_at is not None:
            ended["success" if one.state in ("success", "skipped") else "failed"][last] += 1
    return History(
        end,
        living,
        *([numbers[minute] for minute in range(MINUTES)] for numbers in (ended["success"], ended["failed"])),
    )


def _tries(table: Any, since: datetime) -> Any:
    xcom = XComModel
    same = and_(*(getattr(xcom, name) == getattr(table, name) for name in ("dag_id", "task_id", "run_id", "map_index")))
    return (
        select(table.dag_id, table.start_date, table.end_date, table.state)
        .join(xcom, and_(same, xcom.key == "pod_name"))
        .where(table.start_date.is_not(None), or_(table.end_date.is_(None), table.end_date > since))
    )
