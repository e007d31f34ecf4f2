"""Fetch a connection's extras, in a worker as in the triggerer.

Credentials are resolved where they are used: the process that talks to the cluster calls this, and never serializes
what it returns. This knows nothing of clusters; `hooks.kubernetes` reads the extras.
"""

from __future__ import annotations

from kpo_async.exceptions import ConfigError, clip
from kpo_async.hooks.airflow import AirflowNotFoundException, AirflowRuntimeError, get_connection, get_extra
from kpo_async.hooks.extras import Extras
from kpo_async.hooks.fields import DEFAULT_CONNECTION_ID
from kpo_async.kube.shared import SingleFlight

FRESH_FOR = 30.0
"""Seconds for which the triggers of an event loop share a fetched connection: a fetch costs a triggerer 50 ms, and its
triggers, by the hundred, start at once and ask for the same one."""


_FETCHES: SingleFlight[str, Extras] = SingleFlight("connection", fresh_for=FRESH_FOR)


async def fetch_extras(conn_id: str | None) -> Extras:
    """Return the extras of `conn_id`; empty ones for `None` and for a `kubernetes_default` that is not defined.

    They may be `FRESH_FOR` seconds old; a failure is never kept. Raises `ConfigError` when another connection is
    missing, its extra is not a JSON object, or Airflow does not answer.
    """
    if not conn_id:
        return Extras(None, {})
    return await _FETCHES.run(conn_id, lambda: _fetch(conn_id))


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
    except AirflowRuntimeError as error:
        raise ConfigError(clip(f"Airflow does not answer with connection {conn_id!r}: {error}")) from error
    values = await get_extra(connection)
    if not values and (connection.extra or "").strip() not in ("", "{}", "null"):
        raise ConfigError(f"The extra of connection {conn_id!r} must be a JSON object.")
    return Extras(conn_id, values)
