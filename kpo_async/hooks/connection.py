"""Fetches a connection's extras, in a worker as in the triggerer.

Credentials are resolved where they are used: this is called in the process that talks to the cluster, and what it
returns is never serialized. It knows nothing of clusters; `hooks.kubernetes` reads the extras.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.airflow import AirflowNotFoundException, get_connection, get_extra
from kpo_async.hooks.extras import Extras
from kpo_async.hooks.fields import DEFAULT_CONNECTION_ID

FRESH_FOR = 30.0
"""Seconds that an answer serves everybody in the event loop: a question costs a triggerer 50 ms, its triggers ask at
once, by the hundred, and each would ask for the same."""


@dataclass
class _Answers:
    """What is known of connections in one event loop, and what is being asked for."""

    kept: dict[str, tuple[float, Extras]] = field(default_factory=dict)
    asked: dict[str, asyncio.Task[Extras]] = field(default_factory=dict)


_answers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Answers] = WeakKeyDictionary()


async def fetch_extras(conn_id: str | None) -> Extras:
    """The extras of `conn_id`; none at all for `None` and for a `kubernetes_default` that nobody has defined.

    An answer may be `FRESH_FOR` seconds old; a failure is never kept. Raises `ConfigError` when another connection is
    missing or its extra is no JSON object.
    """
    if not conn_id:
        return Extras(None, {})
    loop = asyncio.get_running_loop()
    answers = _answers.setdefault(loop, _Answers())
    fetched_at, extras = answers.kept.get(conn_id, (-math.inf, None))
    if extras is not None and loop.time() - fetched_at < FRESH_FOR:
        return extras
    task = answers.asked.get(conn_id)
    if task is None:
        task = answers.asked[conn_id] = asyncio.create_task(_fetch(conn_id), name=f"connection {conn_id}")
        task.add_done_callback(lambda done: _keep(answers, conn_id, done, loop.time()))
    # Whoever asked first may be cancelled; the others still want to know.
    return await asyncio.shield(task)


def _keep(answers: _Answers, conn_id: str, done: asyncio.Task[Extras], now: float) -> None:
    del answers.asked[conn_id]
    if not done.cancelled() and done.exception() is None:
        answers.kept[conn_id] = now, done.result()


async def _fetch(conn_id: str) -> Extras:
    try:
        connection = await get_connection(conn_id)
    except AirflowNotFoundException:
        if conn_id == DEFAULT_CONNECTION_ID:
            return Extras(conn_id, {})
        raise ConfigError(
            f"Connection {conn_id!r} is not defined. Create it (type `kubernetes`), or set `kubernetes_conn_id=None` "
            "to use the service account of the process or its default kubeconfig."
        ) from None
    values = await get_extra(connection)
    if not values and (connection.extra or "").strip() not in ("", "{}", "null"):
        raise ConfigError(f"The extra of connection {conn_id!r} must be a JSON object.")
    return Extras(conn_id, values)
