"""Repeat requests to Airflow that it cannot answer now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from airflow.sdk.exceptions import AirflowRuntimeError

from kpo_async.kube.retry import Backoff

T = TypeVar("T")
log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds for which a request is repeated that Airflow cannot answer, as while its database restarts."""
BACKOFF = Backoff(first=0.5, cap=8.0)


async def answered(request: Callable[[], Awaitable[T]]) -> T:
    """Return what `request` returns, which asks Airflow. It is repeated while Airflow fails for reasons of its own.

    In a triggerer a lost connection to the database is such a reason, which Airflow itself passes on at once.
    """
    clock = asyncio.get_running_loop().time
    deadline, failures = clock() + PATIENCE, 0
    while True:
        try:
            return await request()
        except AirflowRuntimeError as error:
            failures += 1
            pause = BACKOFF.delay(failures)
            if not _is_outage(error) or clock() + pause > deadline:
                raise
            log.info("Airflow cannot answer, asking again in %.1f s: %s", pause, error)
        await asyncio.sleep(pause)


def _is_outage(error: AirflowRuntimeError) -> bool:
    """Whether Airflow's API was not reached, or has failed, as opposed to refusing what was asked of it."""
    code = (error.error.detail or {}).get("status_code")
    return error.error.error.value == "API_SERVER_ERROR" and (code is None or code >= 500)
